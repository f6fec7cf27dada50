-- Sixteen requests in one write; wrk counts every answer.
local depth = 16

init = function()
   local one = wrk.format()
   batch = string.rep(one, depth)
end

request = function()
   return batch
end
