-- Removes delayed jobs, whenever they are due. ARGV: key prefix, payloads as they stand in the schedule.
-- Answers how many were removed.
local prefix, removed = ARGV[1], 0
for i = 2, #ARGV do
  local index = prefix .. 'timestamps:' .. ARGV[i]
  for _, member in ipairs(redis.call('SMEMBERS', index)) do
    local second = member:match('delayed:(%d+)$')
    if second then
      local list = prefix .. 'delayed:' .. second
      removed = removed + redis.call('LREM', list, 0, ARGV[i])
      if redis.call('EXISTS', list) == 0 then redis.call('ZREM', KEYS[1], second) end
    end
  end
  redis.call('DEL', index)
end
return removed
