/* Submits one task to a spool and waits for its end, with POSIX alone.
 * usage: spool_submit SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
 * exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
 * build: cc -std=c11 -Wall -Wextra -Werror -o spool_submit spool_submit.c */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char id[33], day[11]; /* day: the date inside the id, under which attempt records are filed */

static void quit(int code, const char *what) {
    fprintf(stderr, "spool_submit: %s%s%s\n", what, code == 74 ? ": " : "", code == 74 ? strerror(errno) : "");
    exit(code);
}

/* 1. A UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits. */
static void new_id(void) {
    struct timespec now;
    unsigned short r[5];
    FILE *source = fopen("/dev/urandom", "rb");
    if (!source || fread(r, sizeof r, 1, source) != 1 || clock_gettime(CLOCK_REALTIME, &now)) quit(74, "new id");
    fclose(source);
    snprintf(id, sizeof id, "%012llx7%03x%04x%04x%04x%04x", now.tv_sec * 1000ULL + now.tv_nsec / 1000000, r[0] & 0xfffu,
             (r[1] & 0x3fffu) | 0x8000u, r[2], r[3], r[4]);
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now.tv_sec));
}

static void submit(const char *task, const char *args) {
    char hidden[64], visible[64];
    snprintf(hidden, sizeof hidden, "tmp/.%s", id);
    snprintf(visible, sizeof visible, "incoming/%s.json", id);
    /* 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out. */
    int file = open(hidden, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (file < 0) quit(74, hidden);
    if (dprintf(file, "{\"id\":\"%s\",\"task\":\"%s\",\"args\":%s}\n", id, task, args) < 0) quit(74, hidden);
    if (fsync(file) || close(file)) quit(74, hidden);
    /* 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it. */
    if (rename(hidden, visible)) quit(74, visible);
    int dir = open("incoming", O_RDONLY | O_DIRECTORY);
    if (dir < 0 ? errno != EACCES : fsync(dir) || close(dir)) quit(74, "incoming");
}

/* Is told by glob what it could not look into. */
static int unreadable(const char *path, int error) {
    errno = error;
    if (error != ENOENT) quit(74, path);
    return 0;
}

/* The paths with this id in their name. None is no error: the directories are made when they are needed. */
static glob_t find(const char *before, const char *after) {
    char pattern[96];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s%s%s", before, id, after);
    if (glob(pattern, 0, unreadable, &found)) found.gl_pathc = 0;
    return found;
}

/* Prints, on one line, the file with the highest N if they are called ID.N.json, and else the first. */
static void show(glob_t found, FILE *out) {
    const char *newest = NULL;
    for (size_t i = 0, best = 0; i < found.gl_pathc; i++) {
        size_t n = strtoul(strstr(found.gl_pathv[i], id) + strlen(id) + 1, NULL, 10);
        if (!newest || n > best) best = n, newest = found.gl_pathv[i];
    }
    FILE *in = newest ? fopen(newest, "r") : NULL;
    if (!in) quit(74, "cannot read what became of the task");
    for (int c; (c = getc(in)) != EOF;)
        if (c != '\n') putc(c, out);
    if (ferror(in) || fclose(in) || putc('\n', out) == EOF || fflush(out)) quit(74, newest);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) quit(64, "usage: spool_submit SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]");
    const char *task = argv[2], *timeout = argc > 4 ? argv[4] : "30";
    const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!*task || strlen(task) > 64 || task[strspn(task, letters)] || strchr("._-", *task))
        quit(64, "TASK is at most 64 letters, digits and . _ -, beginning with a letter or digit");
    if (!*timeout || strlen(timeout) > 6 || timeout[strspn(timeout, "0123456789")])
        quit(64, "TIMEOUT_SECONDS is a whole number below 1000000");
    if (chdir(argv[1])) quit(64, "SPOOL_DIR is not a directory"); /* from here on, paths are the spool's */
    char line[16] = "";
    FILE *format = fopen("format", "r");
    if (!format || !fgets(line, sizeof line, format) || strcmp(line, "spool 1\n")) quit(64, "not a spool of format 1");
    new_id();
    submit(task, argv[3]);
    if (puts(id) == EOF || fflush(stdout)) quit(74, "stdout");
    /* 4. Look for the id in the terminal states, where it stands between commas, and among what was refused. */
    for (long waited = 0, pause = 5;; waited += pause, pause = pause < 100 ? 2 * pause : 200) { /* milliseconds */
        char records[32];
        snprintf(records, sizeof records, "attempts/%s/", day);
        if (find("done/*/*,", ",*").gl_pathc) return show(find(records, ".*.json"), stdout), 0;
        if (find("failed/*/*,", ",*").gl_pathc) return 1;
        if (find("cancelled/*/*,", ",*").gl_pathc) return 2;
        if (find("rejected/*/", "*.reason.json").gl_pathc) show(find("rejected/*/", "*.reason.json"), stderr);
        if (find("rejected/*/", "*").gl_pathc) return 65;
        if (waited >= atol(timeout) * 1000) quit(75, "not over in time; the task goes on");
        nanosleep(&(struct timespec){.tv_nsec = pause * 1000000}, NULL);
    }
}
