-- A person decides what becomes of a dead entry: it stays out of every fold, under another word.
-- ARGV: generation, entry id, what is known of it from now on
-- Returns 1, or 0 when it is not dead (any more)
local known = redis.call('HGET', dead_key(ARGV[1]), ARGV[2])
if not known or string.sub(known, 1, #DEAD) ~= DEAD then return 0 end
redis.call('HSET', dead_key(ARGV[1]), ARGV[2], ARGV[3])
return 1
