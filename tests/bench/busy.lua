-- One of the 10,000 routes of scale.lua, again and again.
local asked

init = function()
  asked = wrk.format("GET", "/p3/items", { ["Host"] = "h497.example" })
end

request = function()
  return asked
end
