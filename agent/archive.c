#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"

#define LONG_NAME 'L'  /* GNU: the payload is the path of the next entry */
#define LONG_TARGET 'K'
#define PAX_NEXT 'x'   /* POSIX: the payload is records for the next entry */
#define PAX_GLOBAL 'g'
#define RECORDS_MAX 65536

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, target[100];
    char magic[8], user[32], group[32], major[8], minor[8], prefix[155], unused[12];
};

_Static_assert(sizeof(struct header) == BLOCK_BYTES, "a header is one block");

_Noreturn void archive_fails(int error, const char *what) {
    dprintf(STDERR_FILENO, "%s: %s\n", what, error == EBADMSG ? "the archive is damaged" : strerror(error));
    _exit(error);
}

void write_all(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length) {
        ssize_t written = write(STDOUT_FILENO, at, length);
        if (written < 0 && errno != EINTR)
            archive_fails(errno, "the archive");
        if (written > 0) {
            at += written;
            length -= (size_t)written;
        }
    }
}

void read_all(void *bytes, size_t length) {
    char *at = bytes;
    while (length) {
        ssize_t got = read(STDIN_FILENO, at, length);
        if (got == 0)
            archive_fails(EBADMSG, "the archive ends too early");
        if (got < 0 && errno != EINTR)
            archive_fails(errno, "the archive");
        if (got > 0) {
            at += got;
            length -= (size_t)got;
        }
    }
}

static size_t padding(uint64_t size) { return (size_t)(-size % BLOCK_BYTES); }

void write_padding(uint64_t size) {
    static const char zeros[BLOCK_BYTES];
    write_all(zeros, padding(size));
}

void skip_padding(uint64_t size) {
    char ignored[BLOCK_BYTES];
    read_all(ignored, padding(size));
}

/* --- numbers: octal text; where it is too short, GNU's big-endian number with the first bit set */

static void put_number(char *field, size_t length, uint64_t number) {
    if (number >> (3 * (length - 1)) == 0) {
        snprintf(field, length, "%0*llo", (int)length - 1, (unsigned long long)number);
        return;
    }
    for (size_t i = length; i-- > 0; number >>= 8)
        field[i] = (char)number;
    field[0] = (char)0x80;
}

static uint64_t take_number(const char *field, size_t length) {
    uint64_t number = 0;
    if (field[0] & 0x80) {
        for (size_t i = 1; i < length; i++) {
            if (number >> 56)
                archive_fails(EBADMSG, "a number");
            number = number << 8 | (uint8_t)field[i];
        }
        return number;
    }
    for (size_t i = 0; i < length && field[i]; i++) {
        if (field[i] == ' ')
            continue;
        if (field[i] < '0' || field[i] > '7' || number >> 61)
            archive_fails(EBADMSG, "a number");
        number = number << 3 | (uint64_t)(field[i] - '0');
    }
    return number;
}

static unsigned sum(const struct header *header) {
    const uint8_t *bytes = (const uint8_t *)header;
    unsigned total = 0;
    for (size_t i = 0; i < sizeof *header; i++) {
        bool in_checksum = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
        total += in_checksum ? ' ' : bytes[i];
    }
    return total;
}

/* --- writing */

static void put_header(struct header *header, char type, uint64_t size) {
    header->type = type;
    put_number(header->size, sizeof header->size, size);
    memcpy(header->magic, "ustar  ", 8); /* GNU's own: POSIX has no long names without pax records */
    snprintf(header->checksum, sizeof header->checksum, "%06o", sum(header));
    header->checksum[7] = ' ';
    write_all(header, sizeof *header);
}

static void put_long(char type, const char *text) {
    struct header header = {.name = "././@LongLink"};
    size_t length = strlen(text) + 1;
    put_header(&header, type, length);
    write_all(text, length);
    write_padding(length);
}

static void put_text(char *field, size_t length, const char *text, char long_type) {
    size_t used = strlen(text);
    if (used > length)
        put_long(long_type, text);
    memcpy(field, text, used < length ? used : length);
}

/* The content of a file follows: `size` bytes and the padding. */
void write_entry(const struct entry *entry) {
    struct header header = {0};
    put_text(header.name, sizeof header.name, entry->path, LONG_NAME);
    put_text(header.target, sizeof header.target, entry->target, LONG_TARGET);
    put_number(header.mode, sizeof header.mode, entry->mode & 07777);
    put_number(header.uid, sizeof header.uid, entry->uid);
    put_number(header.gid, sizeof header.gid, entry->gid);
    put_number(header.mtime, sizeof header.mtime, entry->mtime > 0 ? (uint64_t)entry->mtime : 0);
    put_header(&header, entry->type, entry->size);
}

/* --- reading */

static void take_text(char *path, const char *field, size_t length) {
    size_t used = strnlen(field, length);
    if (used >= PATH_BYTES)
        archive_fails(ENAMETOOLONG, "a path");
    memcpy(path, field, used);
    path[used] = 0;
}

static void take_payload(char *bytes, uint64_t size, uint64_t limit) {
    if (size > limit)
        archive_fails(ENAMETOOLONG, "an extended header");
    read_all(bytes, (size_t)size);
    bytes[size] = 0;
    skip_padding(size);
}

enum number { SIZE, UID, GID, MTIME, NUMBERS };

/* What the extended headers before an entry say of it. */
struct extras {
    char path[PATH_BYTES], target[PATH_BYTES];
    bool has_path, has_target, has[NUMBERS];
    uint64_t numbers[NUMBERS];
};

static uint64_t take_decimal(const char *text) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10); /* of a time, the fraction is left out */
    if (errno || end == text || (*end && *end != '.'))
        archive_fails(EBADMSG, "a number");
    return number;
}

static void take_path(struct extras *extras, bool is_target, const char *text) {
    take_text(is_target ? extras->target : extras->path, text, PATH_BYTES);
    *(is_target ? &extras->has_target : &extras->has_path) = true;
}

/* Times before 1970 and records that are not listed here are left out. */
static void take_record(struct extras *extras, const char *key, const char *value) {
    static const char *const names[NUMBERS] = {"size", "uid", "gid", "mtime"};
    if (strcmp(key, "path") == 0 || strcmp(key, "linkpath") == 0)
        take_path(extras, key[0] == 'l', value);
    for (int number = 0; number < NUMBERS; number++)
        if (strcmp(key, names[number]) == 0 && value[0] != '-') {
            extras->numbers[number] = take_decimal(value);
            extras->has[number] = true;
        }
}

/* Records are "LENGTH KEY=VALUE\n", the length in decimal and of the whole record. */
static void take_records(struct extras *extras, char *at, size_t left) {
    while (left) {
        char *space;
        unsigned long length = strtoul(at, &space, 10);
        if (space == at || *space != ' ' || length > left || at + length <= space + 1 || at[length - 1] != '\n')
            archive_fails(EBADMSG, "an extended header");
        at[length - 1] = 0;
        char *equals = strchr(space + 1, '=');
        if (!equals)
            archive_fails(EBADMSG, "an extended header");
        *equals = 0;
        take_record(extras, space + 1, equals + 1);
        at += length;
        left -= length;
    }
}

static uint64_t choose(const struct extras *extras, enum number number, const char *field, size_t length) {
    return extras->has[number] ? extras->numbers[number] : take_number(field, length);
}

static void take_fields(struct entry *entry, const struct header *header, const struct extras *extras) {
    char name[sizeof header->prefix + sizeof header->name + 2] = "";
    if (memcmp(header->magic, "ustar\0", 6) == 0 && header->prefix[0])
        snprintf(name, sizeof name, "%.155s/", header->prefix);
    snprintf(name + strlen(name), sizeof name - strlen(name), "%.100s", header->name);
    take_text(entry->path, extras->has_path ? extras->path : name, PATH_BYTES);
    take_text(entry->target, extras->has_target ? extras->target : header->target,
              extras->has_target ? PATH_BYTES : sizeof header->target);
    entry->type = header->type && header->type != '7' ? header->type : ENTRY_FILE;
    entry->mode = (uint32_t)take_number(header->mode, sizeof header->mode) & 07777;
    entry->uid = (uint32_t)choose(extras, UID, header->uid, sizeof header->uid);
    entry->gid = (uint32_t)choose(extras, GID, header->gid, sizeof header->gid);
    entry->mtime = (int64_t)choose(extras, MTIME, header->mtime, sizeof header->mtime);
    entry->size = choose(extras, SIZE, header->size, sizeof header->size);
    if (entry->type != ENTRY_FILE)
        entry->size = 0;
}

static bool take_extended(struct extras *extras, char type, uint64_t size) {
    static char payload[RECORDS_MAX + 1];
    switch (type) {
    case LONG_NAME:
    case LONG_TARGET:
        take_payload(payload, size, PATH_BYTES);
        take_path(extras, type == LONG_TARGET, payload);
        return true;
    case PAX_NEXT:
        take_payload(payload, size, RECORDS_MAX);
        take_records(extras, payload, (size_t)size);
        return true;
    case PAX_GLOBAL:
        take_payload(payload, size, RECORDS_MAX);
        return true;
    default:
        return false;
    }
}

/* False at the archive's end mark. An archive without one is cut off, and that is an error. */
bool read_entry(struct entry *entry) {
    static struct extras extras;
    struct header header;
    extras = (struct extras){0};
    for (;;) {
        read_all(&header, sizeof header);
        if (!header.name[0] && sum(&header) == 8 * ' ')
            return false;
        if (take_number(header.checksum, sizeof header.checksum) != sum(&header))
            archive_fails(EBADMSG, "a header");
        if (!take_extended(&extras, header.type, take_number(header.size, sizeof header.size)))
            break;
    }
    take_fields(entry, &header, &extras);
    return true;
}
