-- Removes jobs from a queue. ARGV: key prefix, queue, payloads. Answers how many were removed.
local prefix, queue, removed = ARGV[1], ARGV[2], 0
for i = 3, #ARGV do
  removed = removed + redis.call('LREM', prefix .. 'queue:' .. queue, 0, ARGV[i])
  -- None of them is queued any more.
  redis.call('DEL', prefix .. 'unique:' .. queue .. ':' .. redis.sha1hex(ARGV[i]))
end
return removed
