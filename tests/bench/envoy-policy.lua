-- The policy, for Envoy's Lua filter: the header, else FNV-1a of the cookie; a route is chosen by x-policy.
local bit = require("bit")
local bxor, byte = bit.bxor, string.byte
function envoy_on_request(h)
  local hs = h:headers()
  local pool = "stable"
  if hs:get("x-canary") == "1" then
    pool = "canary"
  else
    local uid = ""
    local c = hs:get("cookie")
    if c then
      uid = c:match("^uid=([^;]*)") or c:match(";%s*uid=([^;]*)") or ""
    end
    local v = 0x811c9dc5
    for i = 1, #uid do
      v = bxor(v, byte(uid, i)) % 4294967296
      v = ((v * 0x193) + (v % 256) * 16777216) % 4294967296
    end
    if (v % 100) >= 90 then pool = "canary" end
  end
  hs:replace("x-policy", pool)
  h:clearRouteCache()
end
