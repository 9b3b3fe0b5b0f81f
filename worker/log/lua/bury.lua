-- Decide once, for all stores, that an entry is dead (rule 3): the first decision stands.
-- ARGV: generation, entry id, what is known of its death
-- Returns 1 when this call decided it
redis.call('HDEL', base .. ':g' .. ARGV[1] .. ':crashes', ARGV[2])
return redis.call('HSETNX', dead_key(ARGV[1]), ARGV[2], ARGV[3])
