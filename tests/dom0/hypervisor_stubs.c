/* Hypercalls of which the toolstack only wants a status. No headers here: their prototypes differ, their ABI does not. */
#include <errno.h>
#define DONE(name) long name(void) { return 0; }
#define REFUSED(name) long name(void) { errno = ENOSYS; return -1; }

DONE(xc_cpuid_apply_policy) DONE(xc_dom_build_image) DONE(xc_dom_boot_image) DONE(xc_dom_gnttab_init) DONE(xc_dom_loginit)
DONE(xc_dom_feature_get) DONE(xc_dom_kernel_mem) DONE(xc_dom_module_mem) DONE(xc_domain_iomem_permission)
DONE(xc_domain_ioport_permission) DONE(xc_domain_irq_permission) DONE(xc_domain_node_setaffinity) DONE(xc_domain_resume)
DONE(xc_domain_send_trigger) DONE(xc_domain_set_memmap_limit) DONE(xc_domain_set_memory_map) DONE(xc_domain_set_pod_target)
DONE(xc_domain_set_target) DONE(xc_domain_set_time_offset) DONE(xc_domain_set_tsc_info) DONE(xc_domain_setvnuma)
DONE(xc_hvm_param_set) DONE(xc_set_paging_mempool_size) DONE(xc_sharing_freed_pages) DONE(xc_sharing_used_frames)
DONE(xc_vcpu_setaffinity) DONE(xc_send_debug_keys)

REFUSED(xc_assign_device) REFUSED(xc_assign_dt_device) REFUSED(xc_cpupool_addcpu) REFUSED(xc_cpupool_create)
REFUSED(xc_cpupool_destroy) REFUSED(xc_cpupool_movedomain) REFUSED(xc_cpupool_removecpu) REFUSED(xc_deassign_device)
REFUSED(xc_domain_dumpcore) REFUSED(xc_domain_getvnuma) REFUSED(xc_domain_memory_mapping) REFUSED(xc_domain_soft_reset)
REFUSED(xc_flask_context_to_sid) REFUSED(xc_flask_getenforce) REFUSED(xc_flask_load) REFUSED(xc_flask_relabel_domain)
REFUSED(xc_flask_setenforce) REFUSED(xc_flask_sid_to_context) REFUSED(xc_get_machine_memory_map) REFUSED(xc_pcitopoinfo)
REFUSED(xc_physdev_map_pirq) REFUSED(xc_physdev_unmap_pirq) REFUSED(xc_psr_cmt_attach) REFUSED(xc_psr_cmt_detach)
REFUSED(xc_psr_cmt_enabled) REFUSED(xc_psr_cmt_get_data) REFUSED(xc_psr_cmt_get_domain_rmid)
REFUSED(xc_psr_cmt_get_l3_cache_size) REFUSED(xc_psr_cmt_get_l3_event_mask) REFUSED(xc_psr_cmt_get_l3_upscaling_factor)
REFUSED(xc_psr_cmt_get_total_rmid) REFUSED(xc_psr_get_domain_data) REFUSED(xc_psr_get_hw_info)
REFUSED(xc_psr_set_domain_data) REFUSED(xc_readconsolering) REFUSED(xc_reserved_device_memory_map)
REFUSED(xc_sched_credit2_params_get) REFUSED(xc_sched_credit2_params_set) REFUSED(xc_sched_credit_domain_get)
REFUSED(xc_sched_credit_domain_set) REFUSED(xc_sched_credit_params_get) REFUSED(xc_sched_credit_params_set)
REFUSED(xc_sched_rtds_domain_get) REFUSED(xc_sched_rtds_domain_set) REFUSED(xc_sched_rtds_vcpu_get)
REFUSED(xc_sched_rtds_vcpu_set) REFUSED(xc_suspend_evtchn_init_exclusive) REFUSED(xc_suspend_evtchn_release)
REFUSED(xc_test_assign_device)

long xc_map_foreign_range(void) { return 0; }  /* NULL: nothing of a guest's memory can be looked at */
long xenhypfs_open(void) { return 0; }
long xenhypfs_close(void) { return 0; }
