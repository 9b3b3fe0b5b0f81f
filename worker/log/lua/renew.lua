-- Show that the drain lives: the renewal counter moves (rule 4).
-- ARGV: generation, store, token, epoch
-- Returns 1, or 0 when the lease or the epoch is not that of the take any more
local cursor = cursor_key(ARGV[1], ARGV[2])
if lease(cursor) ~= ARGV[3] or epoch(cursor) ~= ARGV[4] then return 0 end
redis.call('HINCRBY', cursor, 'beat', 1)
return 1
