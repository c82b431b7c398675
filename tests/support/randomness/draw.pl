use strict;
use warnings;
use Net::SSLeay;
$| = 1;
while (<STDIN>) {
    Net::SSLeay::RAND_bytes(my $bytes, 16) == 1 or die "RAND_bytes";
    Net::SSLeay::RAND_priv_bytes(my $private, 16) == 1 or die "RAND_priv_bytes";
    printf qq({"perl RAND_bytes": "%s", "perl RAND_priv_bytes": "%s"}\n), unpack("H*", $bytes), unpack("H*", $private);
}
