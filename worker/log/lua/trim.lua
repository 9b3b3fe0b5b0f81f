-- Drop entries that every store has applied, no open drain could go back to, and that are older than the horizon
-- (rule 18). Shared payloads of dropped entries are noted in S:gN:releasing until the caller has released each.
-- ARGV: generation, horizon (an id: entries before it may go), horizon of dead entries (ms), store ids ...
-- Returns {number of entries dropped, payload ids to release ...}
local generation, bound = ARGV[1], ARGV[2]
local function successor(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
local function keep(id) -- entries after id must stay
  local next_id = successor(id)
  if after(bound, next_id) then bound = next_id end
end
for i = 4, #ARGV do
  keep(position(cursor_key(generation, ARGV[i])))
  local marks = redis.call('HVALS', open_key(generation, ARGV[i]))
  for j = 1, #marks do keep(string.match(marks[j], '^(%S+)')) end
end
-- Dead entries are what a person may want to replay: they stay, with all that came after them, for a time of their own.
local dead = redis.call('HKEYS', dead_key(generation))
for i = 1, #dead do
  local young = tonumber(string.match(dead[i], '^(%d+)')) >= tonumber(ARGV[3])
  if young and after(bound, dead[i]) then bound = dead[i] end
end
for i = 1, #dead do
  if after(bound, dead[i]) then redis.call('HDEL', dead_key(generation), dead[i]) end
end
-- A cursor before the last entry dropped has a gap behind it, and must never be read on from (rule 19).
local past = redis.call('XREVRANGE', log_key(generation), '(' .. bound, '-', 'COUNT', 1)[1]
if past then redis.call('HSET', head_key(generation), 'trimmed', past[1]) end
local dropped = redis.call('XTRIM', log_key(generation), 'MINID', '=', bound)
local prefix = base .. ':g' .. generation
-- Entries leave in order, so what is gone is everything up to this ordinal.
local gone = (redis.call('HGET', head_key(generation), 'batches') or 0) - redis.call('XLEN', log_key(generation))
local refs = redis.call('ZRANGEBYSCORE', prefix .. ':refs', '-inf', gone)
for i = 1, #refs do
  redis.call('SADD', prefix .. ':releasing', refs[i])
  redis.call('ZREM', prefix .. ':refs', refs[i])
end
redis.call('ZREMRANGEBYSCORE', prefix .. ':rejected', '-inf', gone)
local reply = {dropped}
local releasing = redis.call('SMEMBERS', prefix .. ':releasing')
for i = 1, #releasing do reply[#reply + 1] = releasing[i] end
return reply
