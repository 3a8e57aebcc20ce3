# frozen_string_literal: true

# What a Rails application has, below neighbour.rb.

# A record, as Active Record's are found again.
User = Struct.new(:id) do
  include GlobalID::Identification

  def self.find(id)
    new(Integer(id))
  end
end

# Leaves its arguments and their classes.
class MailJob < ActiveJob::Base
  include Told
  queue_as :peer

  def perform(*args, **keywords)
    echo(args.map { |arg| [arg.class.name, arg.as_json] }, keywords.to_a)
  end
end
