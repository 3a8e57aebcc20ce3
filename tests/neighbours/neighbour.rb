# frozen_string_literal: true

# Resque and resque-scheduler for the tests, loaded from the checkouts in RUBYLIB:
#
#   ruby neighbour.rb PORT work QUEUES            work on queues (comma-separated) until TERM or QUIT
#   ruby neighbour.rb PORT schedule [JSON]        promote and fire: entries in Redis, and these
#   ruby neighbour.rb PORT load                   load all and exit
#   ruby neighbour.rb PORT evaluate               Ruby in each line of stdin, as a JSON string;
#                                                 its value or error as JSON on a line of stdout

require "json"
require "redis"
require "resque"
require "resque-scheduler"

PORT = Integer(ARGV.shift)
Resque.redis = "127.0.0.1:#{PORT}"
# Seconds for which a worker that starts prevents others from pruning.
Resque.heartbeat_interval = 1

# The common methods of the jobs here.
module Reporting
  def redis
    @redis ||= Redis.new(host: "127.0.0.1", port: PORT)
  end

  def echo(*args)
    redis.rpush("echoed", JSON.generate(args))
  end
end

# Pushes its arguments.
class Echo
  extend Reporting
  @queue = :peer

  def self.perform(*args)
    echo(*args)
  end
end

# Fails in Ruby only.
class FailsInRuby
  extend Reporting
  @queue = :peer

  def self.perform(*args)
    raise ArgumentError, "Ruby cannot ☃ #{args.to_json}"
  end
end

# Fails in Python only.
class FailsInPython < Echo
  @queue = :peer
end

# Runs until the test opens its gate.
class Slow
  extend Reporting
  @queue = :peer

  def self.perform(name)
    redis.rpush("begun", Process.pid)
    redis.blpop("gate:#{name}", timeout: 60)
    echo(name)
  end
end

# Unique in Python.
class Once < Echo
  @queue = :peer
end

# A recurring job whose queue only Ruby knows.
class Report
  @queue = :reports
end

# Exits by exit!, without any cleanup.
class Exits
  @queue = :peer

  def self.perform(code)
    exit!(code)
  end
end

# Records a trace at its start and, unless doomed, at its end.
class Trace
  extend Reporting
  @queue = :all

  def self.perform(number, seconds, doomed)
    mark = "#{number} #{Process.pid} #{Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)} ruby"
    redis.sadd?("chaos:begun", mark)
    sleep(seconds)
    raise ArgumentError, "job #{number} fails on purpose" if doomed

    redis.sadd?("chaos:ended", mark)
  end
end

# Enqueues Traces: [[queue, seconds from now, args], ...]
def trace(jobs)
  jobs.each do |queue, later, args|
    if later.zero?
      Resque.enqueue_to(queue, Trace, *args)
    else
      Resque.enqueue_in_with_queue(queue, later, Trace, *args)
    end
  end
end

def work(queues)
  worker = Resque::Worker.new(*queues.split(","))
  worker.work(0.05)
end

def schedule(entries = "{}")
  Resque.schedule = JSON.parse(entries)
  Resque::Scheduler.dynamic = true
  Resque::Scheduler.run
end

def evaluate
  # Otherwise it goes to stdout.
  Resque::Scheduler.logger = Logger.new($stderr)
  $stdin.each_line do |line|
    value = TOPLEVEL_BINDING.eval(JSON.parse(line))
    $stdout.puts(JSON.generate("value" => value))
  rescue Exception => e
    $stdout.puts(JSON.generate("error" => "#{e.class}: #{e.message}"))
  ensure
    $stdout.flush
  end
end

def load_only
  require "rack"
  require "resque/server"
  require "resque/scheduler/server"
end

# Load ActiveJob with its Resque adapter, a job and a record; returns "" or why that failed.
def load_rails
  require "active_support/all"
  require "active_job"
  require "globalid"
  # Resque 3 includes the adapter, with a base class that Rails has since 7.2.
  ActiveJob::QueueAdapters.const_set(:AbstractAdapter, Class.new) if ActiveJob.version < Gem::Version.new("7.2")
  ActiveJob::Base.queue_adapter = :resque
  ActiveJob::Base.logger = Logger.new(IO::NULL)
  GlobalID.app = "shop"
  require_relative "rails_jobs"
  ""
rescue LoadError => e
  e.message
end

# Send a request to resque-web with resque-scheduler's tabs; returns [status, body].
def web(method, path, params = {})
  load_only
  answer = Rack::MockRequest.new(Resque::Server.new).request(method, path, params: params)
  [answer.status, answer.body]
end

COMMANDS = { "work" => :work, "schedule" => :schedule, "load" => :load_only, "evaluate" => :evaluate }.freeze
send(COMMANDS.fetch(ARGV.shift), *ARGV)
