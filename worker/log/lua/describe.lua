-- Note what people say of a segment: its name, description, tags.
-- ARGV: generation, revisions (how often something had been said when it was read), n times a field and its value (''
-- takes it away)
-- Returns 'noted' | 'gone' (that generation is) | 'superseded' (something else was said since: nothing was changed)
if not lives(ARGV[1]) then return 'gone' end
if (redis.call('HGET', segment_key, 'revisions') or '0') ~= ARGV[2] then return 'superseded' end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', segment_key, ARGV[i])
  else
    redis.call('HSET', segment_key, ARGV[i], ARGV[i + 1])
  end
end
redis.call('HINCRBY', segment_key, 'revisions', 1)
redis.call('HSET', segment_key, 'described_ms', string.format('%.0f', now_ms()))
return 'noted'
