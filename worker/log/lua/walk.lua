-- The entries after a position, without what they hold: for counting.
-- ARGV: generation, position, how many
-- Returns {id, the entry's ordinal, ...}
local found = redis.call('XRANGE', log_key(ARGV[1]), '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
local reply = {}
for i = 1, #found do
  reply[#reply + 1] = found[i][1]
  for j = 1, #found[i][2], 2 do
    if found[i][2][j] == 'n' then reply[#reply + 1] = found[i][2][j + 1] end
  end
end
return reply
