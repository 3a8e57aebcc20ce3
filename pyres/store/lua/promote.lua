-- promote: moves the payloads of a timestamp to their queues, in order, as long as they are those the caller has seen and their queue is a list.
--
-- KEYS[1]     LIST      Keys.delayed()
-- KEYS[2]     ZSET      Keys.delayed_schedule
-- KEYS[3]     SET       Keys.queues
-- KEYS[4]     (STRING)  Keys.stat("failed"); left alone when it is no integer
-- KEYS[5]     (LIST)    Keys.failed
-- KEYS[6..n]  (LIST)    Keys.queue(), each queue once
-- ARGV[1]     the timestamp, epoch seconds
-- ARGV[2]     Keys.timestamps_prefix: one SET a payload, named by the payload itself, so walked here
-- ARGV[3]     Keys.delayed_name()
-- ARGV[4]     RPUSH, or LPUSH for the front of the queues
-- ARGV[5]     how many payloads at the head are passed over: they cannot be moved
-- ARGV[6..]   the name of each queue, in the order of KEYS[6..n]; then for each payload three: its
--             bytes, the index of its target from KEYS[5] = 0 (the failures), the bytes to push there
-- returns     how many were moved; the timestamp goes with its last payload
local first = #KEYS + 1
local skipped = tonumber(ARGV[5])
local moved, pushes, usable = 0, {}, {}
local held = redis.call("LRANGE", KEYS[1], skipped, skipped + math.max((#ARGV - first + 1) / 3 - 1, 0))
for at = first, #ARGV, 3 do
    -- Somebody else was here since the caller looked: what is no longer there is not moved twice.
    if held[moved + 1] ~= ARGV[at] then break end
    local target = tonumber(ARGV[at + 1])
    if usable[target] == nil then
        local kind = redis.call("TYPE", KEYS[5 + target]).ok
        usable[target] = kind == "none" or kind == "list"
    end
    if not usable[target] then break end
    moved = moved + 1
    pushes[target] = pushes[target] or {}
    -- LPUSH puts each before the one before it.
    table.insert(pushes[target], ARGV[4] == "LPUSH" and target > 0 and 1 or #pushes[target] + 1, ARGV[at + 2])
end
for number = 1, moved do
    local payload = ARGV[first + 3 * (number - 1)]
    -- Also when an equal payload still waits behind it: that one is due as well.
    redis.pcall("SREM", ARGV[2] .. payload, ARGV[3])
    if skipped > 0 then redis.call("LREM", KEYS[1], 1, payload) end
end
if moved > 0 and skipped == 0 then redis.call("LTRIM", KEYS[1], moved, -1) end
for target, payloads in pairs(pushes) do
    redis.call(target > 0 and ARGV[4] or "RPUSH", KEYS[5 + target], unpack(payloads))
    if target > 0 then
        redis.call("SADD", KEYS[3], ARGV[5 + target])
    else
        redis.pcall("INCRBY", KEYS[4], #payloads)
    end
end
if redis.call("LLEN", KEYS[1]) == 0 then redis.call("ZREM", KEYS[2], ARGV[1]) end
return moved
