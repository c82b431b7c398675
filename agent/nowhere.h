/* nowhere.c, of the keeper: a guest's network where there is none. */
#ifndef EMBERBOX_NOWHERE_H
#define EMBERBOX_NOWHERE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void nowhere_answer(int device); /* once there is something to read */

#endif
