-- The policy, for HAProxy: the header, else FNV-1a of the cookie.
core.register_action("policy", { "http-req" }, function(txn)
  local pool
  local f = txn.sf
  if f:req_hdr("x-canary") == "1" then
    pool = "canary"
  else
    local c = f:req_hdr("cookie")
    local uid = c:match("^uid=([^;]*)") or c:match(";%s*uid=([^;]*)") or ""
    local h = 0x811c9dc5
    for i = 1, #uid do
      h = ((h ~ uid:byte(i)) * 0x01000193) & 0xffffffff
    end
    pool = (h % 100) >= 90 and "canary" or "stable"
  end
  txn:set_var("txn.pool", pool)
end)
