import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Key } from "../src/client/key";
import { connector } from "../src/client/socket";

const fetched = vi.fn<typeof fetch>();
const dialled = vi.fn();
const past = { state: null, replaceState: vi.fn() };
const place = (hash: string): Location => ({ hash, pathname: "/page", search: "?a=1" }) as unknown as Location;

const minted = (token: string): Response => new Response(JSON.stringify({ token, expires_at: 1 }), { status: 201 });

function keyOf(hash: string): Key {
  const key = new Key();
  key.take(place(hash), past as unknown as History);
  return key;
}

beforeEach(() => {
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("WebSocket", class {
    constructor(...options: unknown[]) {
      dialled(...options);
    }
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetAllMocks();
});

describe("a key in the address", () => {
  it("is taken out of it, and what else is there stays", () => {
    expect(keyOf("#key=rk_a%2Bb&x=1").headers).toEqual({ Authorization: "Bearer rk_a+b" });
    expect(past.replaceState).toHaveBeenCalledExactlyOnceWith(null, "", "/page?a=1#x=1");
  });

  it.each(["", "#", "#key=", "#other=1"])("or none: %j", async (hash) => {
    const key = keyOf(hash);
    expect(key.headers).toEqual({});
    expect(await key.token()).toBeNull();
    expect(past.replaceState).not.toHaveBeenCalled();
    expect(fetched).not.toHaveBeenCalled();
  });
});

it("gets a new token for every connection, which goes as a sub-protocol and never in the address", async () => {
  fetched.mockResolvedValueOnce(minted("one.x")).mockResolvedValueOnce(minted("two.y"));
  const key = keyOf("#key=rk_secret");
  const connect = connector("ws://here/v1/stream", () => key.token());
  await connect();
  await connect();
  expect(dialled.mock.calls).toEqual([
    ["ws://here/v1/stream", ["stems.v1", "token.one.x"]],
    ["ws://here/v1/stream", ["stems.v1", "token.two.y"]],
  ]);
  const [url, options] = fetched.mock.calls[0];
  expect([url, options?.method, options?.headers]).toEqual([
    "/v1/tokens", "POST", { Authorization: "Bearer rk_secret", "Content-Type": "application/json" },
  ]);
});

it("offers the protocol alone without a key", async () => {
  await connector("ws://here/v1/stream", () => keyOf("").token())();
  expect(dialled.mock.calls).toEqual([["ws://here/v1/stream", "stems.v1"]]);
});

it.each([
  [() => Promise.resolve(new Response("", { status: 401 })), "unauthorized", "add #key=…"],
  [() => Promise.resolve(new Response("", { status: 429 })), "unreachable", "try again"],
  [() => Promise.reject(new TypeError("network")), "unreachable", "Check that it runs"],
])("says what is wrong when there is no token", async (answer, code, advice) => {
  fetched.mockImplementation(answer);
  const failure = await keyOf("#key=rk").token().catch((error: unknown) => error);
  expect(failure).toMatchObject({ code, advice: expect.stringContaining(advice) });
});
