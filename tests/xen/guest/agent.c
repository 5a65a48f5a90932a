/* What a test guest does: keeps its settings on its disk, and does what is typed at its console.
 *
 *   agent serve             requests on stdin, answers on stdout; see below
 *   agent load              the settings on the disk, nothing where there are none
 *   agent store             stdin becomes the settings on the disk
 *   agent node PATH [TEXT]  a xenstore node's value, or a new one
 *
 * A request is one line, an answer is lines that begin with @ and its number; everything else is the kernel's talk:
 *   N sh HEX                a shell command         @N+HEX... (what it says)  @N=STATUS
 *   N send DEVICE HEX       one frame, as it is                               @N=0
 *   N listen DEVICE [HEX]   keep from now on what arrives, if these bytes are in it
 *   N heard DEVICE          what was kept, and no longer                      @N+HEX (a frame)...  @N=0
 *   N repeat MS DEVICE HEX  send it again and again, until `quiet`
 *   N quiet                 stop that                                         @N+HEX (text: how often)  @N=0
 * A status is an exit status, or 256 and more: 256 + errno of what failed here.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define DISK "/dev/xvda"
#define XENSTORE "/dev/xen/xenbus"
#define MAGIC "domgit-guest\n"
#define SETTINGS 4096 /* bytes on the disk, magic included */
#define LINE 65536
#define FRAME 2048
#define CHUNK 512  /* bytes in one line of an answer */
#define FAILED 256
#define EARS 4

static int hexed(const char *text, unsigned char *bytes, int most)
{
    int count = 0;
    unsigned int byte;
    for (; text[0] && text[1] && count < most && sscanf(text, "%2x", &byte) == 1; text += 2)
        bytes[count++] = byte;
    return count;
}

static void say(const char *number, const unsigned char *bytes, int count)
{
    printf("@%s+", number);
    for (int i = 0; i < count; i++)
        printf("%02x", bytes[i]);
    printf("\n");
}

/* ---- disk ---- */

static int on_disk(unsigned char *sectors, int writing)
{
    int disk = open(DISK, (writing ? O_RDWR : O_RDONLY) | O_SYNC);
    if (disk < 0)
        return -1;
    ssize_t done = writing ? pwrite(disk, sectors, SETTINGS, 0) : pread(disk, sectors, SETTINGS, 0);
    if (writing)
        fsync(disk);
    close(disk);
    return done == SETTINGS ? 0 : -1;
}

static int load(void)
{
    unsigned char sectors[SETTINGS + 1] = {0};
    if (on_disk(sectors, 0) == 0 && memcmp(sectors, MAGIC, strlen(MAGIC)) == 0)
        fputs((char *)sectors + strlen(MAGIC), stdout);
    return 0;
}

static int store(void)
{
    unsigned char sectors[SETTINGS] = {0};
    strcpy((char *)sectors, MAGIC);
    fread(sectors + strlen(MAGIC), 1, SETTINGS - strlen(MAGIC) - 1, stdin);
    return on_disk(sectors, 1) == 0 ? 0 : 1;
}

/* ---- xenstore, as xen/include/public/io/xs_wire.h has it ---- */

static int node(const char *path, const char *text)
{
    struct { uint32_t type, request, transaction, length; } head = {text ? 11 : 2, 1, 0, 0};
    char payload[4096];
    int length = strlen(path) + 1, bus = open(XENSTORE, O_RDWR);
    if (bus < 0)
        return 1;
    strcpy(payload, path);
    if (text) {
        strcpy(payload + length, text);
        length += strlen(text);
    }
    head.length = length;
    if (write(bus, &head, sizeof head) != sizeof head || write(bus, payload, length) != length)
        return 1;
    if (read(bus, &head, sizeof head) != sizeof head || head.length >= sizeof payload)
        return 1;
    for (uint32_t got = 0; got < head.length;) {
        ssize_t more = read(bus, payload + got, head.length - got);
        if (more <= 0)
            return 1;
        got += more;
    }
    if (head.type == 16)
        return 1;
    if (!text)
        printf("%.*s\n", (int)head.length, payload);
    return 0;
}

/* ---- frames ---- */

static struct ear { char device[IFNAMSIZ]; int socket; unsigned char pattern[256]; int length; } ears[EARS];

static int packet_socket(const char *device, int protocol)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
    int raw = socket(AF_PACKET, SOCK_RAW, htons(protocol)), room = 4 << 20;
    if (raw < 0)
        return -1;
    at.sll_ifindex = if_nametoindex(device);
    setsockopt(raw, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (at.sll_ifindex == 0 || bind(raw, (struct sockaddr *)&at, sizeof at) < 0) {
        int why = at.sll_ifindex == 0 ? ENODEV : errno;
        close(raw);
        errno = why;
        return -1;
    }
    return raw;
}

static int emit(const char *device, const char *hex)
{
    unsigned char frame[FRAME];
    int length = hexed(hex, frame, sizeof frame), raw = packet_socket(device, 0);
    if (raw < 0)
        return FAILED + errno;
    int status = send(raw, frame, length, 0) == length ? 0 : FAILED + errno;
    close(raw);
    return status;
}

static struct ear *ear_of(const char *device)
{
    for (int i = 0; i < EARS; i++)
        if (strcmp(ears[i].device, device) == 0 || !ears[i].device[0])
            return &ears[i];
    return NULL;
}

static int listen_at(const char *device, const char *hex)
{
    struct ear *ear = ear_of(device);
    if (!ear)
        return FAILED + ENOSPC;
    if (ear->device[0])
        close(ear->socket);
    ear->device[0] = 0;
    int raw = packet_socket(device, ETH_P_ALL);
    if (raw < 0)
        return FAILED + errno;
    snprintf(ear->device, sizeof ear->device, "%s", device);
    ear->socket = raw;
    ear->length = hex ? hexed(hex, ear->pattern, sizeof ear->pattern) : 0;
    return 0;
}

static int heard(const char *number, const char *device)
{
    unsigned char frame[FRAME];
    struct sockaddr_ll from;
    struct ear *ear = ear_of(device);
    if (!ear || !ear->device[0])
        return FAILED + ENOTCONN;
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(ear->socket, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from, &size);
        if (length < 0)
            return errno == EAGAIN ? 0 : FAILED + errno;
        if (from.sll_pkttype != PACKET_OUTGOING &&
            (!ear->length || memmem(frame, length, ear->pattern, ear->length)))
            say(number, frame, length);
    }
}

static pid_t repeating;
static volatile long *repeated;

static int repeat(const char *ms, const char *device, const char *hex)
{
    struct timespec pause = {atoi(ms) / 1000, atoi(ms) % 1000 * 1000000L};
    unsigned char frame[FRAME];
    int length = hexed(hex, frame, sizeof frame);
    if (repeating)
        return FAILED + EBUSY;
    *repeated = 0;
    repeating = fork();
    if (repeating < 0)
        return FAILED + errno;
    if (repeating == 0)
        for (int raw = -1;; nanosleep(&pause, NULL)) {
            if (raw < 0)
                raw = packet_socket(device, 0);
            if (raw >= 0 && send(raw, frame, length, 0) == length)
                ++*repeated;
        }
    return 0;
}

static int quiet(const char *number)
{
    char text[32];
    if (repeating) {
        kill(repeating, SIGKILL);
        waitpid(repeating, NULL, 0);
        repeating = 0;
    }
    say(number, (unsigned char *)text, snprintf(text, sizeof text, "%ld", *repeated));
    return 0;
}

/* ---- commands ---- */

static int shell(const char *number, const char *hex)
{
    static char command[LINE / 2 + 1];
    unsigned char said[CHUNK];
    int ends[2], status, length = hexed(hex, (unsigned char *)command, LINE / 2);
    command[length] = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return FAILED + errno;
    pid_t child = fork();
    if (child < 0)
        return FAILED + errno;
    if (child == 0) {
        int nothing = open("/dev/null", O_RDONLY);
        setsid();
        dup2(nothing, 0);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t count; (count = read(ends[0], said, sizeof said)) > 0;)
        say(number, said, count);
    close(ends[0]);
    if (waitpid(child, &status, 0) < 0)
        return FAILED + errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int done(char *number, char *verb, char *rest)
{
    char *words[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3 && (words[i] = strtok(i ? NULL : rest, " ")); i++)
        ;
    if (!strcmp(verb, "sh") && words[0])
        return shell(number, words[0]);
    if (!strcmp(verb, "send") && words[1])
        return emit(words[0], words[1]);
    if (!strcmp(verb, "listen") && words[0])
        return listen_at(words[0], words[1]);
    if (!strcmp(verb, "heard") && words[0])
        return heard(number, words[0]);
    if (!strcmp(verb, "repeat") && words[2])
        return repeat(words[0], words[1], words[2]);
    if (!strcmp(verb, "quiet"))
        return quiet(number);
    return FAILED + EINVAL;
}

static int serve(void)
{
    static char line[LINE];
    struct termios console;
    if (tcgetattr(0, &console) == 0) {
        cfmakeraw(&console);
        tcsetattr(0, TCSANOW, &console);
    }
    repeated = mmap(NULL, sizeof *repeated, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (repeated == MAP_FAILED)
        return 1;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        char *number = strtok(line, " "), *verb = strtok(NULL, " "), *rest = strtok(NULL, "");
        char nothing[1] = "";
        if (!number || !verb)
            continue;
        printf("@%s=%d\n", number, done(number, verb, rest ? rest : nothing));
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "serve"))
        return serve();
    if (argc > 1 && !strcmp(argv[1], "load"))
        return load();
    if (argc > 1 && !strcmp(argv[1], "store"))
        return store();
    if (argc > 2 && !strcmp(argv[1], "node"))
        return node(argv[2], argc > 3 ? argv[3] : NULL);
    return 2;
}
