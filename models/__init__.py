"""What happens inside one window. The only folder that imports torch."""
