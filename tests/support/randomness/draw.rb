require "json"
require "openssl"
require "securerandom"
$stdout.sync = true
while $stdin.gets
  puts JSON.generate(
    "ruby SecureRandom" => SecureRandom.hex(16),
    "ruby OpenSSL::Random" => OpenSSL::Random.random_bytes(16).unpack1("H*"),
    "ruby Random.urandom" => Random.urandom(16).unpack1("H*"),
  )
end
