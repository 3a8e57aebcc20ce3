-- pop_due: removes and returns the oldest payload of a timestamp; also removes an empty timestamp.
--
-- KEYS[1]  LIST  Keys.delayed()
-- KEYS[2]  ZSET  Keys.delayed_schedule
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.timestamps_prefix: one SET for each payload, named by the payload itself
-- ARGV[3]  Keys.delayed_name()
-- returns  the payload, or nil when there is none
local payload = redis.call("LPOP", KEYS[1])
if payload then
    -- Equal payloads at one timestamp share one member, which is removed with the last of them (among 1000). Servers
    -- before Redis 6.0.6 have no LPOS; there the member stays.
    if redis.pcall("LPOS", KEYS[1], payload, "MAXLEN", 1000) == false then
        redis.pcall("SREM", ARGV[2] .. payload, ARGV[3])
    end
end
if redis.call("LLEN", KEYS[1]) == 0 then
    redis.call("ZREM", KEYS[2], ARGV[1])
end
return payload
