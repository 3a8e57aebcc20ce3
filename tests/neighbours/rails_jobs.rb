# frozen_string_literal: true

# The parts of a Rails application for neighbour.rb.

# A record that is found by its GlobalID, as those of Active Record.
User = Struct.new(:id) do
  include GlobalID::Identification

  def self.find(id)
    new(Integer(id))
  end
end

# Pushes its arguments and their classes.
class MailJob < ActiveJob::Base
  include Reporting
  queue_as :peer

  def perform(*args, **keywords)
    echo(args.map { |arg| [arg.class.name, arg.as_json] }, keywords.to_a)
  end
end
