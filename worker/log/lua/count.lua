-- Rule 22: who holds this lease has compared the store with the log, and found in it the members that should be, so many
-- of each list. That is the segment's count, if the store has everything, and nobody else could still write to it.
-- ARGV: generation, store, token, members, excluded
-- Returns 1 when it is the count now
local generation, store = ARGV[1], ARGV[2]
local cursor, open = cursor_key(generation, store), open_key(generation, store)
if not lives(generation) then return 0 end
if lease(cursor) ~= ARGV[3] or position(cursor) ~= last(generation) then return 0 end
if redis.call('HLEN', open) ~= 1 or redis.call('HEXISTS', open, ARGV[3]) == 0 then return 0 end
redis.call('HSET', segment_key, 'members', ARGV[4], 'excluded', ARGV[5], 'members_exact', '1')
return 1
