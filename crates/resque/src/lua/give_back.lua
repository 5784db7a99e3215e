-- Puts what a process holds back to the heads of its queues, up to as many jobs as the last of ARGV.
-- Answers how many went back.
local process, left, returned = ARGV[2], tonumber(ARGV[3]), 0
for _, ticket in ipairs(newest_first(redis.call('HKEYS', prefix .. 'inflight:' .. process))) do
  if returned == left then break end
  if give_back(process, ticket) then returned = returned + 1 end
end
if redis.call('EXISTS', prefix .. 'inflight:' .. process) == 0 then redis.call('ZREM', KEYS[1], process) end
return returned
