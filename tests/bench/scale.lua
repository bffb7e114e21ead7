-- 512 prepared requests, each for another of the 10,000 routes and spread over all of them.
local requests, count, at = {}, 512, 0

init = function()
  for turn = 1, count do
    local route = turn * 9973 % 10000
    local host = "h" .. math.floor(route / 10) .. ".example"
    requests[turn] = wrk.format("GET", "/p" .. route % 10 .. "/items", { ["Host"] = host })
  end
end

request = function()
  at = at % count + 1
  return requests[at]
end
