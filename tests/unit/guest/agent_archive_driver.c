/* Packs or unpacks as the guest agent does, for tests without a guest. */
#include <string.h>

#include "archive.h"

int main(int count, char **arguments) {
    if (count != 3)
        return 99;
    if (strcmp(arguments[1], "unpack") == 0)
        unpack(arguments[2]);
    else
        pack(arguments[2], strcmp(arguments[1], "follow") == 0);
    return 0;
}
