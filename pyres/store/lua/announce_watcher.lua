-- announce_watcher: counts a watcher of queues for each of its patterns, for a while.
--
-- KEYS[1]     SET   Keys.workers
-- KEYS[2]     SET   Keys.minions
-- KEYS[3]     SET   Keys.khans
-- KEYS[4..n]  ZSET  Keys.watchers()
-- ARGV[1]     the watcher
-- ARGV[2]     seconds after which a watcher that has not called again is removed
-- ARGV[3]     the least number of registered workers and managers; with fewer nothing is counted or written
-- returns     for each of KEYS[4..n] how many watchers it has; an empty list when nothing was counted
local few = redis.call("SCARD", KEYS[1]) - redis.call("SCARD", KEYS[2]) + redis.call("SCARD", KEYS[3])
if few < tonumber(ARGV[3]) then return {} end
local now = tonumber(redis.call("TIME")[1])
local counts = {}
for i = 4, #KEYS do
    -- Also those in the future: the server's clock may have been ahead.
    redis.call("ZREMRANGEBYSCORE", KEYS[i], "(" .. now, "+inf")
    redis.call("ZREMRANGEBYSCORE", KEYS[i], "-inf", now - ARGV[2])
    redis.call("ZADD", KEYS[i], now, ARGV[1])
    redis.call("EXPIRE", KEYS[i], ARGV[2])
    counts[i - 3] = redis.call("ZCARD", KEYS[i])
end
return counts
