// Decides which answer each tenant gets. It is plain JavaScript with no Witgate import, so `npm test` runs it in Node.
//
// Everything is decided in `prepare`, once an instance: a question about a request is one look-up of a finished answer.

/** What the origin is told of a request whose tenant is not configured. */
const UNKNOWN = "unknown";

/** The keys of the plugin's `config` table. */
const KEYS = ["header", "clusters", "deny", "set_header"];

/**
 * Turns the plugin's configuration into one finished answer a tenant.
 *
 * @param {string} text a JSON object: `header` (required) names the request header that carries the tenant, `clusters`
 *   maps a tenant to a cluster, `deny` lists the tenants that get a 403, and `set_header` names the request header
 *   that tells the origin the tenant (`x-witgate-tenant` unless given). What a client sent under that name is removed.
 * @returns {{ header: string, decide: (tenant: string | null | undefined) => object }}
 * @throws {string} the key at fault and what would be right
 */
export function prepare(text) {
  const config = parse(text);
  const header = name(config, "header");
  const setHeader = config.set_header === undefined ? "x-witgate-tenant" : name(config, "set_header");

  const answer = (tenant, action) => ({ action, setHeaders: [[setHeader, tenant]], removeHeaders: [setHeader] });
  const answers = new Map();
  for (const [tenant, cluster] of Object.entries(clusters(config))) {
    answers.set(tenant, answer(tenant, { tag: "cluster", val: cluster }));
  }
  for (const tenant of denied(config)) {
    if (answers.has(tenant)) {
      throw `\`deny\`: \`${tenant}\` is also in \`clusters\`; a tenant is either routed or denied`;
    }
    answers.set(tenant, answer(tenant, { tag: "respond", val: blocked(tenant) }));
  }
  const other = answer(UNKNOWN, { tag: "pass" });
  return { header, decide: (tenant) => answers.get(tenant) ?? other };
}

function blocked(tenant) {
  return { status: 403, headers: [["content-type", "text/plain"]], body: `tenant ${tenant} is blocked\n` };
}

function parse(text) {
  let config;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw `the config is not JSON: ${error.message}`;
  }
  if (!isTable(config)) throw "the config must be a table";
  for (const key of Object.keys(config)) {
    if (!KEYS.includes(key)) throw `\`${key}\`: unknown key; known are ${KEYS.map((known) => `\`${known}\``).join(", ")}`;
  }
  return config;
}

/** A field name per RFC 9110: the host would refuse anything else in an answer, so it is refused here by its key. */
function name(config, key) {
  const value = config[key];
  if (typeof value === "string" && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(value)) return value.toLowerCase();
  throw `\`${key}\`: expected the name of a request header, such as "x-tenant"`;
}

function clusters(config) {
  const value = config.clusters ?? {};
  if (isTable(value) && Object.values(value).every((cluster) => typeof cluster === "string")) return value;
  throw '`clusters`: expected a table from tenant to cluster, such as { "acme": "acme" }';
}

function denied(config) {
  const value = config.deny ?? [];
  if (Array.isArray(value) && value.every((tenant) => typeof tenant === "string")) return value;
  throw '`deny`: expected a list of tenants, such as ["mallory"]';
}

function isTable(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
