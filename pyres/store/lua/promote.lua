-- promote: moves payloads of one page of a timestamp to their queues, or only removes them: all or nothing.
--
-- KEYS[1]     LIST      Keys.delayed()
-- KEYS[2]     ZSET      Keys.delayed_schedule
-- KEYS[3]     SET       Keys.queues
-- KEYS[4]     (STRING)  Keys.stat("failed"); left unchanged if it is not an integer
-- KEYS[5]     (LIST)    Keys.failed
-- KEYS[6..n]  (LIST)    Keys.queue(), each queue once; payloads for a key that is not a list stay delayed
-- ARGV[1]     the timestamp, epoch seconds
-- ARGV[2]     Keys.timestamps_prefix: one SET for each payload, named by the payload itself
-- ARGV[3]     Keys.delayed_name()
-- ARGV[4]     RPUSH, or LPUSH for the front of the queues
-- ARGV[5]     index of the page's first payload
-- ARGV[6]     index of its last one
-- ARGV[7]     a text that is in no list, to mark the payloads to remove
-- ARGV[8..]   the name of each queue, in the order of KEYS[6..n]; then for each payload three: its SHA-1 in hex, the
--             index of its target from KEYS[5] = 0 (the failures; -1: it is only removed), the bytes to push there
-- returns     {how many were removed; then for each target that is not a list two: its index, its type}; an empty
--             timestamp is removed, and a payload that is no longer on the page stays
-- uses        page_elements
local first, queues = tonumber(ARGV[5]), #KEYS - 5
local reply, wanted = wanted_elements(5, 0, queues, 8 + queues)
local removed, pushes = {}, {}
for place, payload in ipairs(redis.call("LRANGE", KEYS[1], first, ARGV[6])) do
    local same = wanted[redis.sha1hex(payload)]
    local at = same and table.remove(same, 1)
    if at then
        local target = tonumber(ARGV[at + 1])
        table.insert(removed, {place, payload})
        pushes[target] = pushes[target] or {}
        -- LPUSH reverses the order.
        local behind = ARGV[4] == "RPUSH" or target < 1
        table.insert(pushes[target], behind and #pushes[target] + 1 or 1, ARGV[at + 2])
    end
end
pushes[-1] = nil
if #removed > 0 and first == 0 and removed[#removed][1] == #removed then
    -- On a full server the first of these writes fails.
    for target, payloads in pairs(pushes) do
        redis.call(target > 0 and ARGV[4] or "RPUSH", KEYS[5 + target], unpack(payloads))
    end
    redis.call("LTRIM", KEYS[1], #removed, -1)
elseif #removed > 0 then
    local answer = redis.pcall("LSET", KEYS[1], first + removed[1][1] - 1, ARGV[7])
    if answer.err and next(pushes) then return answer end
    if answer.err then
        -- A full server refuses LSET but not LREM: remove one, which frees memory for the others.
        redis.call("LREM", KEYS[1], 1, removed[1][2])
        removed = {removed[1]}
    else
        for at = 2, #removed do redis.call("LSET", KEYS[1], first + removed[at][1] - 1, ARGV[7]) end
        -- From the nearer end.
        local count = 2 * first > redis.call("LLEN", KEYS[1]) and -#removed or #removed
        redis.call("LREM", KEYS[1], count, ARGV[7])
    end
    for target, payloads in pairs(pushes) do
        redis.call(target > 0 and ARGV[4] or "RPUSH", KEYS[5 + target], unpack(payloads))
    end
end
for target, payloads in pairs(pushes) do
    if target > 0 then
        redis.call("SADD", KEYS[3], ARGV[7 + target])
    else
        redis.pcall("INCRBY", KEYS[4], #payloads)
    end
end
local left = redis.call("LLEN", KEYS[1])
-- Where several payloads are removed, all their copies are. Where one is, a copy may stay, and then the timestamp
-- stays in the payload's set.
local copy = #removed == 1 and (left > 10000 or redis.pcall("LPOS", KEYS[1], removed[1][2]))
if copy ~= true and type(copy) ~= "number" then
    for _, pair in ipairs(removed) do redis.pcall("SREM", ARGV[2] .. pair[2], ARGV[3]) end
end
if left == 0 then redis.call("ZREM", KEYS[2], ARGV[1]) end
reply[1] = #removed
return reply
