-- 512 prepared requests of as many users; every 20th asks for the canary by header.
local requests, count, at = {}, 512, 0

init = function()
  for user = 1, count do
    local headers = { ["Cookie"] = "theme=dark; uid=user-" .. tostring(user * 7919) .. "; lang=en" }
    if user % 20 == 0 then headers["x-canary"] = "1" end
    requests[user] = wrk.format("GET", "/", headers)
  end
end

request = function()
  at = at % count + 1
  return requests[at]
end
