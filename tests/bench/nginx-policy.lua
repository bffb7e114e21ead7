-- The policy, for nginx's Lua module: the header, else FNV-1a of the cookie.
local bit = require "bit"
local bxor, byte = bit.bxor, string.byte
local var = ngx.var
local pool
if var.http_x_canary == "1" then
  pool = "canary"
else
  local uid = ""
  local c = var.http_cookie
  if c then
    uid = c:match("^uid=([^;]*)") or c:match(";%s*uid=([^;]*)") or ""
  end
  local h = 0x811c9dc5
  for i = 1, #uid do
    h = bxor(h, byte(uid, i)) % 4294967296
    h = ((h * 0x193) + (h % 256) * 16777216) % 4294967296
  end
  pool = (h % 100) >= 90 and "canary" or "stable"
end
var.pool = pool
