// What the plugin answers, without Wasm: `npm test`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { prepare } from "./tenant.js";

const CONFIG = { header: "X-Tenant", clusters: { acme: "acme", globex: "big" }, deny: ["mallory"] };

/** Asks a plugin configured with `config` about `tenant` and shows the decision in one line. */
function answer(config, tenant) {
  const { action, setHeaders, removeHeaders } = prepare(JSON.stringify(config)).decide(tenant);
  assert.deepEqual(removeHeaders, [setHeaders[0][0]], "what the client sent under the name is removed");
  const value = action.tag === "respond" ? action.val.status : action.val;
  return [action.tag, value, ...setHeaders.map((pair) => pair.join("="))].filter((part) => part !== undefined).join(" ");
}

test("answers a tenant", () => {
  const cases = [
    ["acme", "cluster acme x-witgate-tenant=acme"],
    ["globex", "cluster big x-witgate-tenant=globex"],
    ["mallory", "respond 403 x-witgate-tenant=mallory"],
    ["someone else", "pass x-witgate-tenant=unknown"],
    ["", "pass x-witgate-tenant=unknown"],
    ["constructor", "pass x-witgate-tenant=unknown"], // A name every JavaScript object has.
    [null, "pass x-witgate-tenant=unknown"],
    [undefined, "pass x-witgate-tenant=unknown"],
  ];
  for (const [tenant, expected] of cases) assert.equal(answer(CONFIG, tenant), expected, `tenant ${tenant}`);
});

test("names the header to read and the one to set", () => {
  assert.equal(prepare(JSON.stringify(CONFIG)).header, "x-tenant");
  assert.equal(answer({ ...CONFIG, set_header: "X-Who" }, "acme"), "cluster acme x-who=acme");
});

test("refuses a wrong config by its key", () => {
  const cases = [
    ["{", /not JSON/],
    ["[]", /must be a table/],
    ["{}", /`header`/],
    ['{"header": "x tenant"}', /`header`/],
    ['{"header": "x", "clusters": {"a": 1}}', /`clusters`/],
    ['{"header": "x", "clusters": ["a"]}', /`clusters`/],
    ['{"header": "x", "deny": "a"}', /`deny`/],
    ['{"header": "x", "clusters": {"a": "b"}, "deny": ["a"]}', /`deny`: `a`/],
    ['{"header": "x", "set_header": 7}', /`set_header`/],
    ['{"header": "x", "cluster": {}}', /`cluster`: unknown key/],
  ];
  for (const [config, expected] of cases) {
    let refused = "nothing";
    try {
      prepare(config);
    } catch (error) {
      refused = error;
    }
    assert.match(refused, expected, `config ${config}`);
  }
});
