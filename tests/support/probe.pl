# The probe application of the tests: all it needs is in Debian's perl-base.
#   8080 and 127.0.0.1:8081   GET /        a counter, the port, the process id
#   and each address a port can be open at by itself: [::1]:8082, 10.0.2.15:8083, [::]:8084 without IPv4, [::]:8085
#                             POST /sh     runs the body with sh as this user; the exit code is in x-exit-code
#                             POST /exit/N ends the process
#   9000                      the lifecycle hooks; the payload of /run, such as "suspend=500", decides how the
#                             others answer, and with "slow_suspend=5" after how many seconds; the environment
#                             variables HOOK_READY and the like do so at the build
use strict;
use warnings;
use IO::Select;
use IO::Socket::IP;

$| = 1;
exit $ENV{EXIT_AT_ONCE} if defined $ENV{EXIT_AT_ONCE};

my ($count, %status) = (0);
for (qw(ready validate run suspend resume terminate)) {
    $status{$_} = $ENV{"HOOK_\U$_"} if defined $ENV{"HOOK_\U$_"};
}

sub listener {
    my ($address, $port, @options) = @_;
    return IO::Socket::IP->new(LocalHost => $address, LocalPort => $port, Listen => 64, ReuseAddr => 1,
        GetAddrInfoFlags => 0, @options)
        || die "cannot listen on $port: $@";
}

my %ports = map { $_->sockport => $_ } listener('0.0.0.0', 8080), listener('127.0.0.1', 8081),
    listener('127.0.0.1', 9000), listener('::1', 8082), listener('10.0.2.15', 8083), listener('::', 8084, V6Only => 1),
    listener('::', 8085, V6Only => 0);
my $select = IO::Select->new(values %ports);
print "probe is listening\n";

while (1) {
    for my $socket ($select->can_read) {
        my $client = $socket->accept or next;
        eval { serve($client, $socket->sockport) };
        close $client;
    }
}

sub serve {
    my ($client, $port) = @_;
    my ($head, $length, $body) = ('', 0, '');
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?\n$/;
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        $head .= $line;
    }
    read($client, $body, $length) if $length;
    my ($path) = $head =~ m{^[A-Z]+ (\S+) HTTP/1} or return; # the gateway asks ports whether they speak TLS
    if ($path =~ m{^/aws/lambda-microvms/runtime/v1/(\w+)$}) { answer_hook($client, $1, $body) }
    elsif ($path eq '/sh')                                   { run_command($client, $body) }
    elsif ($path =~ m{^/exit/(\d+)$})                        { answer($client, 200, "{}"); close $client; exit $1 }
    else {
        $count++;
        open my $name, '<', '/proc/sys/kernel/hostname'; chomp(my $host = <$name>);
        answer($client, 200, qq({"count": $count, "port": $port, "pid": $$, "hostname": "$host"}));
    }
}

sub answer_hook {
    my ($client, $name, $body) = @_;
    print "hook $name $body\n";
    if ($name eq 'run') {
        open my $file, '>', '/data/run'; print $file $body; close $file;
        $status{$1} = $2 while $body =~ /(\w+)=(\d+)/g;
    }
    sleep($status{"slow_$name"} || 0);
    open my $log, '>>', '/data/hooks'; print $log "$name\n"; close $log;
    answer($client, $status{$name} || 200, '{}');
}

sub run_command {
    my ($client, $command) = @_;
    open my $pipe, '-|', 'sh', '-c', "exec 2>&1\n$command" or return answer($client, 500, "$!");
    my $output = do { local $/; <$pipe> };
    close $pipe;
    answer($client, 200, defined $output ? $output : '', "x-exit-code: " . ($? >> 8) . "\r\n");
}

sub answer {
    my ($client, $code, $text, $more) = @_;
    $more = '' unless defined $more;
    print $client "HTTP/1.1 $code X\r\nconnection: close\r\n${more}content-length: " . length($text) . "\r\n\r\n$text";
}
