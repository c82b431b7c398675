#include <stdlib.h>
#include <string.h>

#include "agent.h"

/* False at the end of the payload and at the first field that does not fit in it. */
bool next_field(const uint8_t **cursor, const uint8_t *end, struct field *field) {
    const uint8_t *at = *cursor;
    if (end - at < 5)
        return false;
    field->kind = at[0];
    memcpy(&field->length, at + 1, 4);
    if (field->length > (size_t)(end - at - 5))
        return false;
    field->value = at + 5;
    *cursor = at + 5 + field->length;
    return true;
}

bool field_u32(const struct field *field, uint32_t *out) {
    if (field->length != sizeof *out)
        return false;
    memcpy(out, field->value, sizeof *out);
    return true;
}

bool field_u64(const struct field *field, uint64_t *out) {
    if (field->length != sizeof *out)
        return false;
    memcpy(out, field->value, sizeof *out);
    return true;
}

/* Fills a buffer with the text and a zero byte; false when it holds one itself or is too long. */
bool copy_text(const struct field *field, char *buffer, size_t size) {
    if (field->length >= size || memchr(field->value, 0, field->length))
        return false;
    memcpy(buffer, field->value, field->length);
    buffer[field->length] = 0;
    return true;
}

/* A copy of its own, ended by a zero byte; NULL when it holds one itself or memory is short. */
char *field_text(const struct field *field) {
    size_t size = (size_t)field->length + 1;
    char *text = malloc(size);
    if (text && copy_text(field, text, size))
        return text;
    free(text);
    return NULL;
}

bool add_text(char **list, size_t *count, size_t max, const struct field *field) {
    char *text = *count < max ? field_text(field) : NULL;
    if (!text)
        return false;
    list[(*count)++] = text;
    return true;
}
