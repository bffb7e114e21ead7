// The plugin's edge: what the `router-plugin` world of ../../wit asks, answered by tenant.js.

import host from "witgate:policy/host@0.1.0";
import { prepare } from "./tenant.js";

let decide;

export const lifecycle = {
  configure(config) {
    const prepared = prepare(config); // A thrown string is the `err` that the operator reads.
    decide = prepared.decide;
    host.log("debug", `routing by ${prepared.header}`);
    return { fields: [{ tag: "header", val: prepared.header }] };
  },
};

export const router = {
  /** `tenant` is the value of the one field that the manifest names. */
  route([tenant]) {
    return decide(tenant);
  },
};
