-- Forget a store that was removed: its cursors and open marks go, in every generation.
-- ARGV: store, counted ('1' if its replies counted members: the store that counts from now on had applied more or less)
-- Returns the number of keys deleted
local deleted, counted, generation = 0, 0, redis.call('HGET', segment_key, 'generation') or '0'
for each = 1, tonumber(generation) do
  redis.call('SREM', stores_key(each), ARGV[1])
  counted = redis.call('DEL', cursor_key(each, ARGV[1]), open_key(each, ARGV[1]))
  deleted = deleted + counted
end
-- The last one is the present generation; of the others nobody counts members any more.
if counted > 0 and ARGV[2] == '1' then inexact(generation) end
return deleted
