/* A simulated hypervisor under the real Xen 4.17 toolstack.
 *
 * Preloaded into xl, its monitors, xen-init-dom0 and xenstored, it answers the libxenctrl, libxenguest, libxenevtchn
 * and libxengnttab calls that would reach Xen. Its memory is the text file STATE, shared under flock with the players
 * (hypervisor.py reads and writes the same format): a header line `host TOTAL_PAGES CPUS NEXT_DOMID`, then one line
 * per domain. Calls with a struct or an answer are here; the
 * many that only return a status are in hypervisor_stubs.c, what only xenstored needs is in hypervisor_xenstored.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#define XC_WANT_COMPAT_EVTCHN_API
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenguest.h>

#define STATE "/run/dom0/hypervisor"
#define VIRQ "/run/dom0/virq"       /* a byte here is VIRQ_DOM_EXC, read by xenstored */
#define KICK "/run/dom0/kick"       /* a byte here wakes the players */
#define ZOMBIE "/run/dom0/zombie"   /* while it exists, destroyed domains stay, dying */
#define MAX_DOMAINS 4096

struct domain {
    unsigned domid, flags, online, max_vcpus, weight, cap;
    unsigned long long pages, max_pages, cpu_time;
    char uuid[33];
};

static struct { unsigned long long total_pages; unsigned cpus, next_domid, count; struct domain all[MAX_DOMAINS]; } host;
static int state_fd = -1;
static unsigned char handle[65536]; /* libxenstore and libxenctrl calls that are not replaced walk their handle */

/* libxl hands its environment to hotplug scripts; on a real dom0 no LD_PRELOAD is in it. */
__attribute__((constructor)) static void hide(void) { unsetenv("LD_PRELOAD"); }

static void take(void)
{
    FILE *file;
    char line[256];

    memset(&host, 0, sizeof host - sizeof host.all);
    state_fd = open(STATE, O_RDWR | O_CLOEXEC);
    if (state_fd < 0 || flock(state_fd, LOCK_EX) < 0) { perror("simulated hypervisor: " STATE); _exit(70); }
    file = fdopen(dup(state_fd), "r");
    rewind(file);
    if (fgets(line, sizeof line, file))
        sscanf(line, "host %llu %u %u", &host.total_pages, &host.cpus, &host.next_domid);
    while (host.count < MAX_DOMAINS && fgets(line, sizeof line, file)) {
        struct domain *d = &host.all[host.count];
        if (sscanf(line, "%u %32s %x %llu %llu %u %u %llu %u %u", &d->domid, d->uuid, &d->flags, &d->pages, &d->max_pages,
                   &d->online, &d->max_vcpus, &d->cpu_time, &d->weight, &d->cap) == 10)
            host.count++;
    }
    fclose(file);
}

static void drop(void) { close(state_fd); state_fd = -1; } /* closing the last descriptor drops the lock */

static void store(void)
{
    FILE *file = fdopen(dup(state_fd), "w");
    rewind(file);
    fprintf(file, "host %llu %u %u\n", host.total_pages, host.cpus, host.next_domid);
    for (unsigned i = 0; i < host.count; i++) {
        struct domain *d = &host.all[i];
        fprintf(file, "%u %s %x %llu %llu %u %u %llu %u %u\n", d->domid, d->uuid, d->flags, d->pages, d->max_pages,
                d->online, d->max_vcpus, d->cpu_time, d->weight, d->cap);
    }
    fflush(file);
    if (ftruncate(state_fd, ftell(file)) < 0) perror("simulated hypervisor");
    fclose(file);
    drop();
}

static void kick(const char *fifo)
{
    int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) { if (write(fd, "!", 1) < 0) errno = 0; close(fd); }
}

static struct domain *find(uint32_t domid)
{
    for (unsigned i = 0; i < host.count; i++)
        if (host.all[i].domid == domid) return &host.all[i];
    errno = ESRCH;
    return NULL;
}

static unsigned long long free_pages(void)
{
    unsigned long long used = 0;
    for (unsigned i = 0; i < host.count; i++) used += host.all[i].pages;
    return used > host.total_pages ? 0 : host.total_pages - used;
}

static void put_uuid(const xen_domain_handle_t from, char *to)
{
    for (int i = 0; i < 16; i++) sprintf(to + 2 * i, "%02x", from[i]);
}

static void get_uuid(const char *from, xen_domain_handle_t to)
{
    unsigned byte;
    for (int i = 0; i < 16; i++) to[i] = sscanf(from + 2 * i, "%2x", &byte) == 1 ? byte : 0;
}

/* One change of one domain, written back. */
#define CHANGE(domid, ...) do { struct domain *d; take(); d = find(domid); \
    if (!d) { drop(); errno = ESRCH; return -1; } __VA_ARGS__; store(); } while (0)

/* ---- the host ---- */
xc_interface *xc_interface_open(xentoollog_logger *l, xentoollog_logger *b, unsigned f) { return (xc_interface *)handle; }
int xc_interface_close(xc_interface *xch) { return 0; }
int xc_get_max_cpus(xc_interface *xch) { return 8; }
int xc_get_online_cpus(xc_interface *xch) { return 8; }
int xc_get_max_nodes(xc_interface *xch) { return 1; }
int xc_sched_id(xc_interface *xch, int *id) { *id = XEN_SCHEDULER_CREDIT2; return 0; }

int xc_version(xc_interface *xch, int cmd, void *arg)
{
    switch (cmd) {
    case XENVER_version: return 4 << 16 | 17;
    case XENVER_pagesize: return 4096;
    case XENVER_extraversion: strcpy(arg, ".7"); return 0;
    case XENVER_capabilities: strcpy(arg, "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "); return 0;
    /* dom0_mem= turns xl's autoballoon off, as every provider's dom0 has it */
    case XENVER_commandline: strcpy(arg, "placeholder dom0_mem=1024M,max:1024M"); return 0;
    case XENVER_changeset: strcpy(arg, "simulated"); return 0;
    case XENVER_compile_info: memset(arg, 0, sizeof(xen_compile_info_t)); return 0;
    case XENVER_platform_parameters: memset(arg, 0, sizeof(xen_platform_parameters_t)); return 0;
    case XENVER_build_id: return -ENODATA;
    default: errno = ENOSYS; return -1;
    }
}

int xc_physinfo(xc_interface *xch, xc_physinfo_t *info)
{
    take();
    memset(info, 0, sizeof *info);
    info->threads_per_core = info->nr_nodes = 1;
    info->cores_per_socket = info->nr_cpus = host.cpus;
    info->max_cpu_id = host.cpus - 1;
    info->cpu_khz = 2400000;
    info->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap;
    info->total_pages = info->max_mfn = host.total_pages;
    info->free_pages = free_pages();
    drop();
    return 0;
}

int xc_numainfo(xc_interface *xch, unsigned *max, xc_meminfo_t *memory, uint32_t *distance)
{
    if (memory) {
        take();
        memory->memsize = host.total_pages << 12;
        memory->memfree = free_pages() << 12;
        drop();
    }
    if (distance) *distance = 10;
    *max = 1;
    return 0;
}

int xc_cputopoinfo(xc_interface *xch, unsigned *max, xc_cputopo_t *topology)
{
    take();
    for (unsigned i = 0; topology && i < host.cpus && i < *max; i++) topology[i] = (xc_cputopo_t){ .core = i };
    *max = host.cpus;
    drop();
    return 0;
}

xc_cpupoolinfo_t *xc_cpupool_getinfo(xc_interface *xch, uint32_t poolid)
{
    xc_cpupoolinfo_t *info;
    if (poolid) { errno = ENOENT; return NULL; }
    info = calloc(1, sizeof *info);
    info->sched_id = XEN_SCHEDULER_CREDIT2;
    take();
    info->n_dom = host.count;
    drop();
    info->cpumap = calloc(1, 8);
    info->cpumap[0] = 0xff;
    return info;
}

xc_cpumap_t xc_cpupool_freeinfo(xc_interface *xch) { return calloc(1, 8); }

/* ---- domains ---- */
int xc_domain_create(xc_interface *xch, uint32_t *domid, struct xen_domctl_createdomain *config)
{
    struct domain *d;
    take();
    if (host.count == MAX_DOMAINS) { drop(); errno = ENOMEM; return -1; }
    bool any = !*domid || *domid >= DOMID_FIRST_RESERVED;
    if (!any && find(*domid)) { drop(); errno = EEXIST; return -1; }
    if (any) {
        while (find(host.next_domid)) host.next_domid++;
        *domid = host.next_domid++;
    }
    d = &host.all[host.count++];
    *d = (struct domain){ .domid = *domid, .flags = XEN_DOMINF_paused, .max_vcpus = config->max_vcpus, .weight = 256 };
    d->online = 1;
    if (config->flags & XEN_DOMCTL_CDF_hvm) d->flags |= XEN_DOMINF_hvm_guest;
    put_uuid(config->handle, d->uuid);
    store();
    return 0;
}

static void fill(xc_domaininfo_t *info, const struct domain *d)
{
    memset(info, 0, sizeof *info);
    info->domain = d->domid;
    info->flags = d->flags;
    info->tot_pages = d->pages;
    info->max_pages = d->max_pages;
    info->cpu_time = d->cpu_time;
    info->nr_online_vcpus = d->online;
    info->max_vcpu_id = d->max_vcpus ? d->max_vcpus - 1 : 0;
    get_uuid(d->uuid, info->handle);
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned max, xc_domaininfo_t *info)
{
    unsigned n = 0;
    take();
    for (uint32_t next = first; n < max; n++) { /* in domid order: the file is in order of creation */
        struct domain *best = NULL;
        for (unsigned i = 0; i < host.count; i++)
            if (host.all[i].domid >= next && (!best || host.all[i].domid < best->domid)) best = &host.all[i];
        if (!best) break;
        fill(&info[n], best);
        next = best->domid + 1;
    }
    drop();
    return n;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned max, xc_dominfo_t *info)
{
    unsigned n, found;
    xc_domaininfo_t *raw = calloc(max, sizeof *raw);
    found = xc_domain_getinfolist(xch, first, max, raw);
    for (n = 0; n < found; n++) {
        memset(&info[n], 0, sizeof info[n]);
        info[n].domid = raw[n].domain;
        info[n].dying = !!(raw[n].flags & XEN_DOMINF_dying);
        info[n].shutdown = !!(raw[n].flags & XEN_DOMINF_shutdown);
        info[n].paused = !!(raw[n].flags & XEN_DOMINF_paused);
        info[n].blocked = !!(raw[n].flags & XEN_DOMINF_blocked);
        info[n].running = !!(raw[n].flags & XEN_DOMINF_running);
        info[n].hvm = !!(raw[n].flags & XEN_DOMINF_hvm_guest);
        info[n].shutdown_reason = raw[n].flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
        if (info[n].shutdown && info[n].shutdown_reason == SHUTDOWN_crash) { info[n].shutdown = 0; info[n].crashed = 1; }
        info[n].nr_pages = raw[n].tot_pages;
        info[n].max_memkb = raw[n].max_pages << 2;
        info[n].nr_online_vcpus = raw[n].nr_online_vcpus;
        info[n].max_vcpu_id = raw[n].max_vcpu_id;
        memcpy(info[n].handle, raw[n].handle, sizeof info[n].handle);
    }
    free(raw);
    return n;
}

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
    CHANGE(domid, d->flags |= XEN_DOMINF_paused); /* blocked or not, its vcpus stay as they are */
    return 0;
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
    CHANGE(domid, d->flags = (d->flags & ~XEN_DOMINF_paused) | (d->flags & XEN_DOMINF_shutdown ? 0 : XEN_DOMINF_blocked));
    kick(KICK);
    return 0;
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
    CHANGE(domid, d->flags = (d->flags & XEN_DOMINF_hvm_guest) | XEN_DOMINF_shutdown | reason << XEN_DOMINF_shutdownshift);
    kick(VIRQ);
    kick(KICK);
    return 0;
}

int xc_domain_destroy(xc_interface *xch, uint32_t domid)
{
    if (access(ZOMBIE, F_OK) == 0)
        CHANGE(domid, d->flags |= XEN_DOMINF_dying | XEN_DOMINF_paused);
    else
        CHANGE(domid, *d = host.all[--host.count]);
    kick(VIRQ);
    kick(KICK);
    return 0;
}

int xc_domain_sethandle(xc_interface *xch, uint32_t domid, xen_domain_handle_t uuid)
{
    CHANGE(domid, put_uuid(uuid, d->uuid));
    return 0;
}

int xc_domain_max_vcpus(xc_interface *xch, uint32_t domid, unsigned max) { CHANGE(domid, d->max_vcpus = max); return 0; }
int xc_domain_setmaxmem(xc_interface *xch, uint32_t domid, uint64_t kib) { CHANGE(domid, d->max_pages = kib >> 2); return 0; }
const char *xc_domain_get_native_protocol(xc_interface *xch, uint32_t domid) { return "x86_64-abi"; }
int xc_hvm_param_get(xc_interface *xch, uint32_t dom, uint32_t param, uint64_t *value) { *value = 0; return 0; }
int xc_evtchn_alloc_unbound(xc_interface *xch, uint32_t dom, uint32_t remote) { static int port; return ++port; }
int xc_domain_node_getaffinity(xc_interface *xch, uint32_t domid, xc_nodemap_t map) { map[0] = 1; return 0; }

int xc_sched_credit2_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *s)
{
    struct domain *d;
    take();
    d = find(domid);
    if (d) *s = (struct xen_domctl_sched_credit2){ .weight = d->weight, .cap = d->cap };
    drop();
    return d ? 0 : -1;
}

int xc_sched_credit2_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *s)
{
    CHANGE(domid, d->weight = s->weight; d->cap = s->cap);
    return 0;
}

int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info)
{
    struct domain *d;
    take();
    d = find(domid);
    if (d && vcpu < d->max_vcpus)
        *info = (xc_vcpuinfo_t){ .vcpu = vcpu, .online = vcpu < d->online, .blocked = 1, .cpu = vcpu % 8 };
    else
        d = NULL;
    drop();
    if (!d) errno = ESRCH;
    return d ? 0 : -1;
}

int xc_vcpu_getaffinity(xc_interface *xch, uint32_t domid, int vcpu, xc_cpumap_t hard, xc_cpumap_t soft, uint32_t flags)
{
    if (hard) hard[0] = 0xff;
    if (soft) soft[0] = 0xff;
    return 0;
}

/* ---- the domain builder ---- */
static struct xc_dom_arch arch = { .guest_type = "xen-3.0-x86_64", .native_protocol = "x86_64-abi", .page_shift = 12, .sizeof_pfn = 8 };

struct xc_dom_image *xc_dom_allocate(xc_interface *xch, const char *cmdline, const char *features)
{
    struct xc_dom_image *dom = calloc(1, sizeof *dom);
    dom->xch = xch;
    dom->arch_hooks = &arch;
    return dom;
}

void xc_dom_release(struct xc_dom_image *dom) { free(dom); }

static int readable(const char *call, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > 0) return 0;
    if (errno == 0) errno = EINVAL;
    fprintf(stderr, "simulated hypervisor: %s %s: %s\n", call, path, strerror(errno));
    return -1;
}

int xc_dom_kernel_file(struct xc_dom_image *dom, const char *path) { errno = 0; return readable("kernel", path); }
int xc_dom_module_file(struct xc_dom_image *dom, const char *path, const char *c) { errno = 0; return readable("ramdisk", path); }
int xc_dom_parse_image(struct xc_dom_image *dom) { dom->arch_hooks = &arch; return 0; }
int xc_dom_mem_init(struct xc_dom_image *dom, unsigned mib) { dom->total_pages = mib * 256ULL; return 0; }
int xc_dom_boot_xen_init(struct xc_dom_image *dom, xc_interface *xch, uint32_t domid) { dom->guest_domid = domid; return 0; }
char *xc_dom_guest_os(struct xc_dom_image *dom) { return "linux"; }
bool xc_dom_translated(const struct xc_dom_image *dom) { return true; }

int xc_dom_boot_mem_init(struct xc_dom_image *dom)
{
    unsigned long long pages = dom->target_pages ? dom->target_pages : dom->total_pages; /* PVH, PV */
    struct domain *d;
    int rc = -1;
    take();
    d = find(dom->guest_domid);
    if (d && pages <= free_pages()) { d->pages = pages; rc = 0; }
    store();
    if (rc) errno = ENOMEM;
    return rc;
}
