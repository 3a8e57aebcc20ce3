-- take_failed: takes records of one page out of a failure list, and puts the payloads of those that are retried on their queues: all of it or nothing.
--
-- KEYS[1]   LIST  the failure list: Keys.failed or Keys.failure_list()
-- KEYS[2]   SET   Keys.queues
-- KEYS[3..] LIST  Keys.queue() of each queue that gets something
-- ARGV[1]   index of the page's first record, from the head
-- ARGV[2]   index of its last one
-- ARGV[3]   a text that stands in no list, to mark what goes
-- ARGV[4..] each queue's name, then of each record four: its place on the page from 0, its SHA-1 in
--           hex, which of the queues from 1 (0: it is deleted), the payload
-- returns   how many went; a record that no longer stands in its place stays
local from_head = ARGV[1] * 2 < redis.call("LLEN", KEYS[1])
local page = redis.call("LRANGE", KEYS[1], ARGV[1], ARGV[2])
local queues = #KEYS - 2
local gone = 0
local announced = {}
for at = 4 + queues, #ARGV, 4 do
  local place, queue = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local record = page[place + 1]
  if record and redis.sha1hex(record) == ARGV[at + 1] then
    redis.call("LSET", KEYS[1], ARGV[1] + place, ARGV[3])
    gone = gone + 1
    if queue > 0 then
      if not announced[queue] then
        redis.call("SADD", KEYS[2], ARGV[3 + queue])
        announced[queue] = true
      end
      redis.call("RPUSH", KEYS[2 + queue], ARGV[at + 3])
    end
  end
end
if gone > 0 then redis.call("LREM", KEYS[1], from_head and gone or -gone, ARGV[3]) end
return gone
