-- Forget a store that was removed: its cursors and open marks go, in every generation.
-- ARGV: store, counted ('1' if its replies counted members: the store that counts from now on had applied more or less)
-- Returns the number of keys deleted
local deleted = 0
for generation = 1, tonumber(redis.call('HGET', segment_key, 'generation') or '0') do
  redis.call('SREM', stores_key(generation), ARGV[1])
  deleted = deleted + redis.call('DEL', cursor_key(generation, ARGV[1]), open_key(generation, ARGV[1]))
end
if deleted > 0 and ARGV[2] == '1' then redis.call('HSET', segment_key, 'members_exact', '0') end
return deleted
