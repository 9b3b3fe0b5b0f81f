-- Note what people say of a segment: its name, description, tags.
-- ARGV: generation, n times a field and its value ('' takes it away)
-- Returns 1, or 0 when that generation is gone
if not lives(ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', segment_key, ARGV[i])
  else
    redis.call('HSET', segment_key, ARGV[i], ARGV[i + 1])
  end
end
redis.call('HINCRBY', segment_key, 'revisions', 1)
redis.call('HSET', segment_key, 'described_ms', string.format('%.0f', now_ms()))
return 1
