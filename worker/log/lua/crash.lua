-- Count that parsing an entry, alone and in a process of its own, killed that process (rule 9).
-- ARGV: generation, entry id
-- Returns how often by now
return redis.call('HINCRBY', base .. ':g' .. ARGV[1] .. ':crashes', ARGV[2], 1)
