/* What xenstored wants of a hypervisor: event channels, of which only the VIRQ matters, grant mappings, two devices. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define VIRQ "/run/dom0/virq" /* a byte here is VIRQ_DOM_EXC */

struct xenevtchn_handle { int fd; };
xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *l, unsigned flags)
{
    xenevtchn_handle *xce = calloc(1, sizeof *xce);
    xce->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return xce;
}
int xenevtchn_close(xenevtchn_handle *xce) { close(xce->fd); free(xce); return 0; }
int xenevtchn_fd(xenevtchn_handle *xce) { return xce->fd; }
int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }
int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }
int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }
xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote)
{
    static int port = 1;
    return ++port;
}
xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned virq)
{
    int fifo = open(VIRQ, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return fifo < 0 || dup2(fifo, xce->fd) < 0 ? -1 : 1;
}
xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    char byte;
    return read(xce->fd, &byte, 1) == 1 ? 1 : -1;
}

static char grants;
xengnttab_handle *xengnttab_open(struct xentoollog_logger *l, unsigned flags) { return (xengnttab_handle *)&grants; }
int xengnttab_close(xengnttab_handle *xgt) { return 0; }
int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count) { return 0; }
int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count) { return munmap(start, count * 4096UL); }
void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int special(const char *path)
{
    const char *name = strstr(path, "/xen/xsd_"); /* below /proc or /dev: it depends on the build */
    int fd;
    if (!name || (strcmp(name, "/xen/xsd_port") && strcmp(name, "/xen/xsd_kva"))) return -1;
    fd = memfd_create("xsd", MFD_CLOEXEC);
    if (strcmp(name, "/xen/xsd_kva") == 0 ? ftruncate(fd, 4096) < 0 : pwrite(fd, "1", 1, 0) < 0) return -1;
    return fd;
}

#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list rest; mode_t mode; int fd = special(path); \
    if (fd >= 0) return fd; \
    va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); \
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode); }
OPEN(open)
OPEN(open64)
int __open_2(const char *path, int flags) { return open(path, flags, 0); }
int __open64_2(const char *path, int flags) { return open(path, flags, 0); }
