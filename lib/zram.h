/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* zram.h: a block device whose pages live compressed in memory.
 *
 * Two objects.  A *zram_memory* is what several devices can share: the
 * address space that objects live in (the arena), the allocator that
 * packs them (the pool), the limit on resident memory, the compression
 * contexts and the background thread.  A *zram_store* is one device:
 * a size in bytes and a table with one slot per page.
 *
 *     struct zram_memory_config m = { .mem_limit = 256 << 20 };
 *     struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, 1 };
 *     struct zram_memory *memory = zram_memory_create (&m);
 *     struct zram_store *store = zram_open (memory, 1 << 30, &codec);
 *
 *     zram_memory_start (memory);        (after the last fork)
 *     zram_write (store, buf, sizeof buf, 8192);
 *     zram_read (store, buf, sizeof buf, 8192);
 *     zram_memory_stop (memory);
 *     zram_close (store);
 *     zram_memory_destroy (memory);
 *
 * Words.  A *page* is ZRAM_PAGE_SIZE bytes of a store at a multiple of
 * that size, the unit of compression.  Its *object* is the stored form
 * of its bytes.  A page that repeats one 64-bit word is *same-filled*
 * and a page that does not compress is *huge* (stored as it is).  A
 * *hole* is a page that was never written, or was trimmed or zeroed
 * since; it reads as zeroes and takes no memory.
 *
 * Errors.  Unless it says otherwise, a function that can fail returns
 * -1 (or NULL) and sets errno; a function that returns 0 has done all
 * that was asked.  Offsets and counts are in bytes, of any alignment.
 * A range that does not lie inside the store is EINVAL.
 *
 * Threads.  zram_read, zram_write, zram_zero, zram_trim, zram_extents
 * and the two stats functions may be called from any number of threads
 * at once.  A page is atomic: a reader sees one write's bytes or
 * another's, never a mixture.  A range of pages is not.  Everything
 * else belongs to one thread.
 */

#ifndef ZRAM_H
#define ZRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ZRAM_PAGE_SIZE 4096

/* The largest store, in bytes.  (NBD's own limit.) */
#define ZRAM_SIZE_MAX INT64_MAX

/* The largest reserve, in bytes. */
#define ZRAM_RESERVE_MAX (UINT64_C (1) << 36)

struct zram_memory;
struct zram_store;

/* ---- Codecs -------------------------------------------------------- */

enum zram_algorithm {
  ZRAM_ALGORITHM_NONE,          /* no compression, every page is huge */
  ZRAM_ALGORITHM_LZ4,           /* level is the acceleration, as in zram */
  ZRAM_ALGORITHM_LZ4HC,
  ZRAM_ALGORITHM_ZSTD,
};
#define ZRAM_NR_ALGORITHMS 4

/* An algorithm and its level.  A level of 0 means the algorithm's
 * default one, except for zstd, where 0 is a level (zstd maps it to its
 * own default, 3).
 */
struct zram_codec {
  enum zram_algorithm algorithm;
  int level;

  /* zstd: do not train dictionaries.  Otherwise the background thread
   * makes one of what is stored when that is some megabytes, uses it if
   * it is better, and looks again when much has been written.
   */
  bool no_dictionary;

  /* zstd: use this dictionary, of so many bytes, from the first page on,
   * and train none.  Anything will do that zstd takes: what `zstd --train'
   * makes, or text.  It is copied.  NULL: none.
   */
  const void *dictionary;
  size_t dictionary_size;
};

/* More than this is of no use to pages. */
#define ZRAM_DICTIONARY_MAX (1 << 20)

/* The name that users give an algorithm: "none", "lz4", "lz4hc",
 * "zstd".  Never NULL for a value of the enumeration.
 */
const char *zram_algorithm_name (enum zram_algorithm algorithm);

/* The algorithm of that name in *algorithm; false if there is none. */
bool zram_algorithm_find (const char *name, enum zram_algorithm *algorithm);

/* The levels that an algorithm has, both ends included, and the one it
 * takes if the user names none.  Algorithms without levels say 0, 0, 0.
 */
void zram_algorithm_levels (enum zram_algorithm algorithm,
                            int *min, int *max, int *preset);

/* ---- Shared memory ------------------------------------------------- */

enum zram_allocator {
  ZRAM_ALLOCATOR_ZSMALLOC,      /* densest: classes 16 bytes apart */
  ZRAM_ALLOCATOR_ZBUD,          /* at most two objects in 4096 bytes */
};
#define ZRAM_NR_ALLOCATORS 2

const char *zram_allocator_name (enum zram_allocator allocator);
bool zram_allocator_find (const char *name, enum zram_allocator *allocator);

/* What is done with idle pages: those that nobody has read or written for
 * so long are compressed again, neighbours together, in groups.  With a
 * mem_limit the memory that this takes (some MB) is charged from the
 * first zram_open on, and nothing is done if that is more than a quarter
 * of what the limit leaves.
 */
struct zram_recompress {
  struct zram_codec codec;      /* not ZRAM_ALGORITHM_NONE */
  unsigned age;                 /* seconds; a page is idle after these */
  unsigned group;               /* pages in a group: 2, 4, 8 or 16; or 0:
                                   do nothing */
};

/* Who leaves RAM for a tier, when it must be somebody; see docs/policies.md.
 */
enum zram_policy {
  ZRAM_POLICY_LRU,              /* what was not used for longest */
  ZRAM_POLICY_MFU,              /* what is not used often */
  ZRAM_POLICY_SMQ,              /* as dm-cache's, in clusters of pages */
};
#define ZRAM_NR_POLICIES 3

/* "lru", "mfu", "smq". */
const char *zram_policy_name (enum zram_policy policy);
bool zram_policy_find (const char *name, enum zram_policy *policy);

struct zram_memory_config {
  /* The most resident memory in bytes that all stores on this memory
   * may take together: objects, slot tables, compression contexts and
   * the allocator's own records.  0: no limit.
   */
  uint64_t mem_limit;

  enum zram_allocator allocator;

  /* Address space for objects, in bytes, a multiple of 64 KiB.  0: as
   * much as a slot can name (1 TiB).  Less is taken where the system
   * refuses that.  Address space is not memory; only tests have a reason
   * to set this.
   */
  uint64_t arena_size;

  /* The number of compression contexts.  0: twice the number of
   * processors.
   */
  unsigned contexts;

  /* Memory in bytes, at most ZRAM_RESERVE_MAX, that is faulted in ahead
   * of need from zram_memory_start to zram_memory_stop: meanwhile no
   * request asks the system for memory.  It counts as resident.  One that
   * finds the reserve empty waits for a thread that fills it.  0: none;
   * requests fault memory in as they need it.
   */
  uint64_t reserve;

  struct zram_recompress recompress;    /* zsmalloc only */

  /* How much of one processor the worker may take, in percent (1 to 100).
   * 0: 25.
   */
  unsigned background_cpu;

  enum zram_policy policy;

  /* The most that is written to all tiers together, in bytes in any 24
   * hours.  When nothing is left, tiers are as good as full.  At least 1 MiB;
   * 0: no limit.
   */
  uint64_t writeback_limit;

  /* Whether there will be tiers: for zram_memory_minimum. */
  bool tiers;
};

/* Create what stores share.  Starts no thread, so it can be called
 * before a fork.
 *
 * ENOMEM: no address space or memory.  ENOSPC: mem_limit is less than
 * what an empty memory takes (see zram_memory_minimum).  EINVAL: a
 * field of the configuration is out of range.
 */
struct zram_memory *zram_memory_create (const struct zram_memory_config *);

/* The smallest mem_limit, in bytes, that leaves room for a few pages
 * when one store with this codec is open, and for what all tiers share.  For
 * messages.
 */
uint64_t zram_memory_minimum (const struct zram_memory_config *,
                              const struct zram_codec *);

/* Start and stop the background threads: the worker, which compacts the
 * pool, returns freed memory to the system and trains dictionaries, and
 * the keeper of the reserve, if there is one.  Without them everything
 * works, but memory is returned only when the limit forces it, and
 * requests fault in what they need.  When zram_memory_start returns the
 * reserve is as full as the limit allows.  Both may be called when there
 * is nothing to do.
 */
int zram_memory_start (struct zram_memory *);
void zram_memory_stop (struct zram_memory *);

/* Do all background work that can be done at once: train a dictionary
 * and recompress with it, compact, and return what is free to the
 * system.  For tests, benchmarks and quiet moments; I/O may go on
 * meanwhile.  Do not call it while the background threads run.  True if
 * there was an end to it.
 */
bool zram_memory_settle (struct zram_memory *);

/* Take pages of a store for idle that nobody has used for AGE seconds; 0:
 * all.  Ages are known to a quarter of what makes a page idle by itself,
 * and not beyond that.
 */
void zram_mark_idle (struct zram_store *, unsigned age);

/* Free everything.  All stores must have been closed.  NULL is fine. */
void zram_memory_destroy (struct zram_memory *);

/* ---- Tiers --------------------------------------------------------- */

/* Storage below RAM.  The functions may be called from several threads at
 * once.  Offsets and counts are multiples of 4096, buffers are aligned to
 * as much.  discard says that what is there is not needed any more, and close
 * that nothing is.  Those two may be NULL.
 *
 * They return 0, or -1 and errno.  Of a write or a discard EINPROGRESS says
 * that nobody knows if it was done, is done, or will be done at any time: the
 * mebibyte that it was for is abandoned.  What else discard says is of no
 * interest.
 */
struct zram_tier_ops {
  int (*read) (void *opaque, void *buf, size_t count, uint64_t offset);
  int (*write) (void *opaque, const void *buf, size_t count,
                uint64_t offset);
  int (*discard) (void *opaque, uint64_t count, uint64_t offset);
  void (*close) (void *opaque);
};

struct zram_tier {
  const struct zram_tier_ops *ops;
  void *opaque;
  uint64_t size;                /* bytes; whole MiB of it are used */
};

#define ZRAM_TIER_FORCE 1       /* overwrite what is there */
#define ZRAM_TIER_SWAP 2        /* need no memory to read and write */

/* Storage in a file or on a block device.  A file gets the size WANTED and
 * is made (mode 0600) if it is not there; WANTED may be 0 for one that has
 * its size.  Of a device at most WANTED bytes are used.  With ZRAM_TIER_SWAP
 * the blocks of a file must have been written, or, with a WANTED size, are
 * written here, which takes its time; and what is not needed any more is not
 * discarded.  -1 and errno: EBUSY if a device is mounted or in use
 * otherwise, or if another server uses the file; EEXIST if there is
 * something on it that is not ours, unless ZRAM_TIER_FORCE; EINVAL if it is
 * smaller than 2 MiB; EMSGSIZE if its blocks are larger than 4 KiB; with
 * ZRAM_TIER_SWAP, ENODATA if blocks have not been written and EOPNOTSUPP if the
 * file system cannot do it.
 */
int zram_tier_file (const char *path, uint64_t wanted, unsigned flags,
                    struct zram_tier *);

/* What has become of a tier, as a sentence for whoever runs the server.  It
 * is called by threads that do I/O, when something changes.
 */
typedef void zram_tier_say_fn (const char *name, const char *sentence);

/* Storage on an NBD server, by its URI (nbd://, nbd+unix://, nbds://): all
 * of the export.  A connection that breaks is made again, for a second or
 * so, and one on which nothing moves for ten is taken for broken.  Then, and
 * if the server comes back with another export, reads and writes fail at
 * once; whether it is back is looked for now and then.  SAY may be NULL.  -1
 * and errno: EROFS if the export is read-only, EBUSY if the memory has a tier
 * there already, EMSGSIZE if the server does not take requests of 4 KiB, or of
 * 1 MiB, EEXIST and EINVAL as above, or whatever libnbd says.
 */
int zram_tier_nbd (struct zram_memory *, const char *uri, bool force,
                   zram_tier_say_fn *say, struct zram_tier *);

/* Use a tier, below those that there are; I/O may go on meanwhile.  What the
 * memory has, it closes; so does this if it
 * fails.  From now on idle objects leave RAM before the limit is reached,
 * and a write fails with ENOSPC only if the tiers are full as well.  All
 * that was on the storage is overwritten.  -1 and errno: EINVAL if it is
 * smaller than 2 MiB, ENOSPC if there are eight already or the limit
 * leaves no room, ENOMEM.
 */
int zram_add_tier (struct zram_memory *, const struct zram_tier *);

/* Move all that is on a tier elsewhere and take the tier out of use; I/O
 * may go on meanwhile.  -1 and errno: EINVAL if there is no such tier, EBUSY
 * if it is being removed already, ENOSPC if there is not enough room
 * elsewhere, EIO if a part of it cannot be read.  It is in use then as
 * before.
 *
 * With LOST, pages that cannot be read are given up, and counted there, when
 * nothing else can be moved any more: reading them is EIO until they are
 * written whole, zeroed or trimmed.
 */
int zram_remove_tier (struct zram_memory *, unsigned tier, uint64_t *lost);

/* ---- Stores -------------------------------------------------------- */

/* Make a store of SIZE bytes (1 to ZRAM_SIZE_MAX; need not be a
 * multiple of the page size), all of it a hole.  Takes memory only as
 * pages are written.
 *
 * EINVAL: the size is out of range or the codec has no such level.
 * ENOMEM, ENOSPC: as for zram_memory_create.
 */
struct zram_store *zram_open (struct zram_memory *, uint64_t size,
                              const struct zram_codec *);

/* Free the store and everything in it.  No I/O may be going on.  NULL
 * is fine.
 */
void zram_close (struct zram_store *);

uint64_t zram_size (const struct zram_store *);

/* Read or write COUNT bytes at OFFSET.
 *
 * A write that fails with ENOSPC (the limit was reached and nothing
 * could be moved) or ENOMEM (address space ran out) leaves
 * the page it failed on as it was; earlier pages of the range may have
 * been written.  EIO: a stored page could not be decompressed.
 */
int zram_read (struct zram_store *, void *buf, size_t count, uint64_t offset);
int zram_write (struct zram_store *, const void *buf, size_t count,
                uint64_t offset);

/* Make COUNT bytes at OFFSET read as zeroes.  Whole pages become holes
 * and their objects are freed; parts of pages are written, which can
 * fail like zram_write.  zram_trim differs only in statistics: the
 * pages it frees are counted in notify_free.
 */
int zram_zero (struct zram_store *, uint64_t count, uint64_t offset);
int zram_trim (struct zram_store *, uint64_t count, uint64_t offset);

enum zram_extent {
  ZRAM_EXTENT_DATA,             /* has an object */
  ZRAM_EXTENT_ZERO,             /* was written, with zeroes */
  ZRAM_EXTENT_HOLE,             /* reads as zeroes, takes no memory */
};

/* Describe COUNT bytes at OFFSET as maximal extents, in order, the
 * first and last cut to the range.  The callback may end the walk by
 * returning a value other than 0, which zram_extents then returns.
 * Decompresses nothing, and steps over parts of the store that were
 * never written.  What it says of a page was true at some moment of the
 * call.
 */
typedef int zram_extent_fn (void *opaque, uint64_t offset, uint64_t count,
                            enum zram_extent type);
int zram_extents (struct zram_store *, uint64_t count, uint64_t offset,
                  zram_extent_fn *fn, void *opaque);

/* ---- Moving pages by hand ------------------------------------------ */

/* Levels are RAM and the tiers by their numbers (zram_memory_stats). */
#define ZRAM_LEVEL_RAM (-1)
#define ZRAM_LEVEL_TIERS (-2)   /* from: any of them; to: as if by itself */

/* Words and meanings are those of Linux zram's writeback_store. */
enum zram_pages {
  ZRAM_PAGES_ALL,
  ZRAM_PAGES_IDLE,
  ZRAM_PAGES_HUGE,
  ZRAM_PAGES_HUGE_IDLE,         /* both of them */
  ZRAM_PAGES_INCOMPRESSIBLE,    /* idle compression was no use for them */
};
#define ZRAM_NR_PAGES 5

/* "all", "idle", "huge", "huge_idle", "incompressible". */
const char *zram_pages_name (enum zram_pages pages);
bool zram_pages_find (const char *name, enum zram_pages *pages);

struct zram_move {
  int from, to;                 /* levels, not the same; from
                                   ZRAM_LEVEL_TIERS only to RAM */
  enum zram_pages pages;        /* of those in RAM */
  uint64_t offset, count;       /* bytes of the store; count 0: to its end */
  uint64_t limit;               /* pages, at most; 0: all */
};

/* Move pages from one level to another, while I/O goes on.  *MOVED becomes
 * how many were, also on failure.  -1 and errno: EINVAL if there is no such
 * level, ENOSPC if the level that they were to go to is full, EIO if some
 * could not be read or written; they stayed where they were.
 */
int zram_move (struct zram_store *, const struct zram_move *,
               uint64_t *moved);

/* What moves pages by hand, now or later, ends soon with EINTR: the end is
 * near.
 */
void zram_interrupt (struct zram_memory *);

/* Compact the pool as far as that goes, and return what it frees. */
void zram_compact (struct zram_memory *);

/* ---- Statistics ---------------------------------------------------- */

/* Names and meanings are those of Linux zram (mm_stat, io_stat).  Bytes
 * unless a name says pages.  Reading them takes no lock that I/O takes;
 * each field is exact when no I/O is going on and close to it otherwise.
 */
#define ZRAM_DICTIONARIES_MAX 10

struct zram_store_stats {
  uint64_t disksize;
  uint64_t orig_data_size;      /* stored pages * 4096, same-filled too */
  uint64_t compr_data_size;     /* sum of the sizes of objects */
  uint64_t same_pages;          /* same-filled pages */
  uint64_t huge_pages;          /* pages stored as they are */
  uint64_t huge_pages_since;    /* the same, ever since the store began */
  uint64_t failed_reads;        /* requests */
  uint64_t failed_writes;       /* requests; zero and trim count as one */
  uint64_t invalid_io;          /* requests outside the store */
  uint64_t notify_free;         /* pages freed by trim */
  uint64_t grouped_pages;       /* pages that are stored with others */
  uint64_t bd_count;            /* pages on tiers */
  uint64_t bd_reads;            /* pages read from them */
  uint64_t bd_writes;           /* pages written to them */
  uint64_t lost_pages;          /* pages that a tier took with it */

  /* The dictionary in use; all 0 if there is none. */
  unsigned dictionary_generation;       /* how many there have been */
  unsigned dictionary_trained_from;     /* pages */
  unsigned dictionary_size_gain;        /* per mille that objects are
                                           smaller for it, when adopted */
  unsigned dictionary_time_gain;        /* per mille that the codec is
                                           faster for it, when adopted */

  /* How many dictionaries there are, of all stores, and how many objects
   * each has, the newest first.
   */
  unsigned dictionaries;
  uint64_t dictionary_objects[ZRAM_DICTIONARIES_MAX];
};
void zram_store_stats (struct zram_store *, struct zram_store_stats *);

#define ZRAM_TIERS_MAX 8
#define ZRAM_TIER_SIZE_MIN (2 << 20)     /* bytes */

/* Of all stores on a memory together. */
struct zram_memory_stats {
  uint64_t mem_used_total;      /* memory the pool holds for objects */
  uint64_t mem_used_max;        /* the most that it held */
  uint64_t mem_limit;           /* on resident; 0: none */
  uint64_t resident;            /* all memory: pool, slot tables, contexts,
                                   records, free memory not yet returned */
  uint64_t slot_table_size;     /* the part of resident in slot tables */
  uint64_t pages_compacted;     /* pages freed by compaction */
  uint64_t reserve_size;        /* what there should be in reserve */
  uint64_t reserve_filled;      /* what there is */
  uint64_t reserve_low;         /* the least that there was since its start */
  uint64_t reserve_waits;       /* how often a request had to wait for it */

  uint64_t writeback_left;      /* bytes that may be written now; 0 if
                                   there is no limit */

  unsigned nr_tiers;            /* from fast to slow */
  struct zram_tier_stats {
    unsigned number;            /* what zram_move and others call it */
    uint64_t size;              /* bytes */
    uint64_t segment_size;      /* bytes */
    uint64_t segments;          /* in all, and... */
    uint64_t free_segments;     /* ...those that are free... */
    uint64_t abandoned_segments;        /* ...and that never will be */
    uint64_t pages;             /* that are stored here alone */
    uint64_t clean_pages;       /* that are in RAM as well */
    uint64_t bytes_stored;      /* in segments that are not free */
    uint64_t bytes_live;        /* those of them that pages still name */
    uint64_t bytes_in;          /* written for pages that came here... */
    uint64_t bytes_written;     /* ...and all: the ratio is the write
                                   amplification */
    uint64_t reads, writes;     /* requests */
    uint64_t read_errors, write_errors;
    uint64_t corrected_errors;  /* damage that a group's parity made good */
    struct zram_latency {       /* ns; 0: there was none yet */
      uint64_t p50, p99, max;
    } read_latency, write_latency;      /* of requests */
  } tiers[ZRAM_TIERS_MAX];
};
void zram_memory_stats (struct zram_memory *, struct zram_memory_stats *);

/* ---- Validator ----------------------------------------------------- */

/* Walk everything and compare what is stored twice or can be derived:
 * every object has exactly one owner, per class used + free = capacity,
 * the counters equal what the walk counts, and more.  Writes one line
 * to REPORT for each thing that is wrong and returns how many there
 * were.  No I/O and no background work may be going on.
 */
unsigned zram_memory_check (struct zram_memory *, FILE *report);

#endif /* ZRAM_H */
