<?php
while (fgets(STDIN) !== false) {
    echo json_encode([
        "php random_bytes" => bin2hex(random_bytes(16)),
        "php random_int" => implode(",", array_map(fn() => random_int(0, 1 << 30), range(1, 4))),
        "php openssl_random_pseudo_bytes" => bin2hex(openssl_random_pseudo_bytes(16)),
    ]), "\n";
}
