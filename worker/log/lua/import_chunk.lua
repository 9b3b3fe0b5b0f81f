-- Lay down one chunk of an import that is not appended yet; it has an hour to live, as all of them then have.
-- ARGV: generation, import, number, chunk, seconds
-- Returns 1, or 0 when the import is in the log already: then it has all of its chunks, or has been folded
if redis.call('HEXISTS', imports_key(ARGV[1]), ARGV[2]) == 1 then return 0 end
local key = import_key(ARGV[1], ARGV[2])
redis.call('HSET', key, ARGV[3], ARGV[4])
redis.call('EXPIRE', key, ARGV[5])
return 1
