/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Dictionaries that train themselves: when there is one, that pages move
 * to it, and that the one before it goes.
 *
 * The background thread is not started; its work is done by
 * zram_memory_settle.  Time is a part of the judgement on a dictionary,
 * so one that is refused on a machine that is busy elsewhere is given a
 * few more chances.  ThreadSanitizer watches zstd copy the tables of a
 * dictionary for each page, which takes longer than they save: there
 * it may be refused in the end.
 */

#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "model.h"
#include "pages.h"
#include "storage.h"
#include "store.h"

#define PAGE ZRAM_PAGE_SIZE
#define NR_PAGES 3000
#define NR_CHANCES 10

static const struct zram_codec zstd = { ZRAM_ALGORITHM_ZSTD, 1, false };

static struct zram_memory *memory;
static struct zram_store *store;
static unsigned char buf[PAGE], back[PAGE];

/* ---- Contents ------------------------------------------------------ */

#define NR_WORDS 100
#define WORD_MIN 40
#define WORD_MAX 79

/* Words of random letters, as a seed has it.  They are long, so that a
 * dictionary with them makes the codec faster as well: more and shorter
 * matches could take it more time than it saves.
 */
struct vocabulary {
  char words[NR_WORDS][WORD_MAX + 1];
};

static void
make_vocabulary (struct vocabulary *v, uint64_t seed)
{
  struct rng rng = { seed * 2 + 1 };
  unsigned i, k, length;

  for (i = 0; i < NR_WORDS; i++) {
    length = WORD_MIN + rng_below (&rng, WORD_MAX - WORD_MIN + 1);
    for (k = 0; k < length; k++)
      v->words[i][k] = 'a' + rng_below (&rng, 26);
    v->words[i][length] = '\0';
  }
}

/* Words with a space behind each. */
static void
fill_words (struct rng *rng, const struct vocabulary *v, unsigned char *p,
            size_t count)
{
  size_t i = 0, n;

  while (i < count) {
    const char *word = v->words[rng_below (rng, NR_WORDS)];

    n = strlen (word);
    if (n > count - i)
      n = count - i;
    memcpy (p + i, word, n);
    i += n;
    if (i < count)
      p[i++] = ' ';
  }
}

/* What a page contains follows from the vocabulary and its number. */
static void
make_page (const struct vocabulary *v, uint64_t page)
{
  struct rng rng = { page + 1 };

  fill_words (&rng, v, buf, PAGE);
}

static void
write_pages (const struct vocabulary *v, uint64_t nr)
{
  uint64_t i;

  for (i = 0; i < nr; i++) {
    make_page (v, i);
    ck_assert_int_eq (zram_write (store, buf, PAGE, i * PAGE), 0);
  }
}

static void
check_pages (const struct vocabulary *v, uint64_t nr)
{
  uint64_t i;

  for (i = 0; i < nr; i++) {
    make_page (v, i);
    ck_assert_int_eq (zram_read (store, back, PAGE, i * PAGE), 0);
    ck_assert_mem_eq (back, buf, PAGE);
  }
}

/* ---- The store ----------------------------------------------------- */

static void
setup (const struct zram_codec *codec, uint64_t nr_pages)
{
  struct zram_memory_config config = { .contexts = 2 };

  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, nr_pages * PAGE, codec);
  ck_assert_ptr_nonnull (store);
}

static void
teardown (void)
{
  model_check_memory (memory);
  zram_close (store);
  zram_memory_settle (memory);
  model_check_memory (memory);
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  zram_memory_destroy (memory);
}

static struct zram_store_stats
stats (void)
{
  struct zram_store_stats s;

  zram_store_stats (store, &s);
  return s;
}

static unsigned
generation (void)
{
  return stats ().dictionary_generation;
}

/* Have one trained until there are N.  (Any small number says that it is
 * time to; which one it is decides what dictionaries are tried.)
 */
static void
train_until (unsigned n)
{
  unsigned chances = NR_CHANCES;

  zram_memory_settle (memory);
  while (generation () < n && chances--) {
    store->dictionary.next = chances;
    zram_memory_settle (memory);
  }
  ck_assert_uint_eq (generation (), n);
}

static void
check_no_dictionary (void)
{
  struct zram_store_stats s;

  zram_memory_settle (memory);
  store->dictionary.next = 0;
  zram_memory_settle (memory);
  s = stats ();
  ck_assert_uint_eq (s.dictionary_generation, 0);
  ck_assert_uint_eq (s.dictionary_trained_from, 0);
  ck_assert_uint_eq (s.dictionary_size_gain, 0);
  ck_assert_uint_eq (s.dictionary_time_gain, 0);
  ck_assert (!codecs_has_dictionary (memory->codecs,
                                     atomic_load (&store->codec)));
}

/* ---- Tests --------------------------------------------------------- */

START_TEST (test_trained_and_used)
{
  struct vocabulary v;
  struct zram_store_stats before, after;
  unsigned base;

  setup (&zstd, NR_PAGES);
  base = atomic_load (&store->codec);
  make_vocabulary (&v, 1);
  write_pages (&v, NR_PAGES);
  before = stats ();
  ck_assert_uint_eq (before.dictionary_generation, 0);
  ck_assert_uint_eq (codecs_objects (memory->codecs, base), NR_PAGES);

  train_until (1);
  after = stats ();
  ck_assert_uint_gt (after.dictionary_trained_from, 0);
  ck_assert_uint_le (after.dictionary_trained_from, NR_PAGES);
  ck_assert_uint_gt (after.dictionary_size_gain, 0);
  ck_assert_uint_lt (after.dictionary_size_gain, 1000);
  ck_assert (codecs_has_dictionary (memory->codecs,
                                    atomic_load (&store->codec)));

  /* What was there before has moved, and nothing else has changed. */
  ck_assert_uint_lt (after.compr_data_size, before.compr_data_size);
  ck_assert_uint_eq (after.orig_data_size, before.orig_data_size);
  ck_assert_uint_lt (codecs_objects (memory->codecs, base), NR_PAGES / 10);
  model_check_memory (memory);
  check_pages (&v, NR_PAGES);

  /* New pages get it at once; it is not trained again without a cause. */
  write_pages (&v, NR_PAGES);
  ck_assert_uint_eq (codecs_objects (memory->codecs, base), 0);
  zram_memory_settle (memory);
  ck_assert_uint_eq (generation (), 1);
  check_pages (&v, NR_PAGES);
  teardown ();
}
END_TEST

/* Its memory is charged as long as it is there. */
START_TEST (test_retrained_and_reaped)
{
  struct vocabulary v, w;
  uint64_t size;
  unsigned first, second;

  setup (&zstd, NR_PAGES);
  make_vocabulary (&v, 1);
  make_vocabulary (&w, 2);
  write_pages (&v, NR_PAGES);
  train_until (1);
  first = atomic_load (&store->codec);

  /* Some old pages stay, until the second dictionary gets them. */
  write_pages (&w, NR_PAGES - 100);
  ck_assert_uint_eq (codecs_objects (memory->codecs, first), NR_PAGES);
  size = codecs_size (memory->codecs);
  store->dictionary.next = 0;
  train_until (2);
  ck_assert_uint_eq (codecs_objects (memory->codecs, first), 0);
  second = atomic_load (&store->codec);
  ck_assert_uint_ne (second, first);

  write_pages (&w, NR_PAGES);
  ck_assert_uint_eq (codecs_objects (memory->codecs, first), 0);
  ck_assert_uint_eq (codecs_objects (memory->codecs, second), NR_PAGES);
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  ck_assert (!codecs_has_dictionary (memory->codecs, first));
  ck_assert (codecs_has_dictionary (memory->codecs, second));
  ck_assert_uint_le (codecs_size (memory->codecs), size + size / 10);
  ck_assert_uint_eq (memory->codecs_charged, codecs_size (memory->codecs));
  check_pages (&w, NR_PAGES);

  /* The last one goes with its store. */
  zram_close (store);
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  ck_assert (!codecs_has_dictionary (memory->codecs, second));
  store = zram_open (memory, PAGE, &zstd);
  ck_assert_ptr_nonnull (store);
  teardown ();
}
END_TEST

/* Pages on tiers do not keep old ones alive for ever. */
START_TEST (test_refreshed_on_tiers)
{
  struct storage storage;
  struct zram_tier tier = storage_init (&storage, UINT64_C (64) << 20);
  struct zram_move down = { ZRAM_LEVEL_RAM, ZRAM_LEVEL_TIERS };
  struct vocabulary v[5];
  uint64_t k, i, moved;

  setup (&zstd, 5 * NR_PAGES);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  for (k = 0; k < 5; k++) {
    make_vocabulary (&v[k], k + 1);
    for (i = 0; i < NR_PAGES; i++) {
      make_page (&v[k], i);
      ck_assert_int_eq (zram_write (store, buf, PAGE,
                                    (k * NR_PAGES + i) * PAGE), 0);
    }
    store->dictionary.next = 0;
    train_until (k + 1);
    ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  }
  ck_assert_uint_eq (stats ().bd_count, 5 * NR_PAGES);
  ck_assert_uint_eq (stats ().dictionaries, 5);
  while (refresh_some (memory, &memory->writeback.refresh))
    ;
  ck_assert_uint_eq (stats ().bd_count, 4 * NR_PAGES);
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  ck_assert_uint_eq (stats ().dictionaries, 4);
  model_check_memory (memory);
  for (k = 0; k < 5; k++)
    for (i = 0; i < NR_PAGES; i++) {
      make_page (&v[k], i);
      ck_assert_int_eq (zram_read (store, back, PAGE,
                                   (k * NR_PAGES + i) * PAGE), 0);
      ck_assert_mem_eq (back, buf, PAGE);
    }
  teardown ();
  storage_destroy (&storage);
}
END_TEST

START_TEST (test_not_for_noise)
{
  struct rng rng = { 5 };
  unsigned i;

  setup (&zstd, NR_PAGES);
  for (i = 0; i < NR_PAGES; i++) {
    pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
    ck_assert_int_eq (zram_write (store, buf, PAGE, (uint64_t) i * PAGE), 0);
  }
  check_no_dictionary ();
  teardown ();
}
END_TEST

static void
check_none_for (const struct zram_codec *codec, unsigned nr_pages)
{
  struct vocabulary v;

  setup (codec, nr_pages);
  make_vocabulary (&v, 3);
  write_pages (&v, nr_pages);
  check_no_dictionary ();
  check_pages (&v, nr_pages);
  teardown ();
}

START_TEST (test_not_for_lz4)
{
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1, false };

  check_none_for (&codec, NR_PAGES);
}
END_TEST

START_TEST (test_not_wanted)
{
  struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, 1, true };

  check_none_for (&codec, NR_PAGES);
}
END_TEST

START_TEST (test_not_for_few_pages)
{
  check_none_for (&zstd, 2000);
}
END_TEST

/* No room for the samples, then none for the dictionary, then enough. */
START_TEST (test_limit)
{
  static const uint64_t rooms[] = { 0, 512 * PAGE + 4 * PAGE };
  struct vocabulary v;
  unsigned i;

  setup (&zstd, NR_PAGES);
  make_vocabulary (&v, 4);
  write_pages (&v, NR_PAGES);
  for (i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
    memory->limit.max = limit_resident (&memory->limit) + rooms[i];
    check_no_dictionary ();
    ck_assert_uint_le (limit_resident (&memory->limit), memory->limit.max);
    ck_assert_uint_eq (memory->codecs_charged, codecs_size (memory->codecs));
    model_check_memory (memory);
    check_pages (&v, NR_PAGES);
  }
  memory->limit.max = 64 << 20;
  train_until (1);
  ck_assert_uint_le (limit_resident (&memory->limit), memory->limit.max);
  check_pages (&v, NR_PAGES);
  teardown ();
}
END_TEST

/* ---- Several threads ----------------------------------------------- */

#define NR_THREADS 3
#define PART (1000 * PAGE + 1000)
#define STEPS 3000
#define STEPS_OF_ONE 600        /* with one vocabulary */

struct thread {
  unsigned number;
  _Atomic unsigned *running;
};

static void
step_words (struct model *model, struct rng *rng, const struct vocabulary *v)
{
  unsigned char pages[4 * PAGE];
  size_t count = PAGE * (1 + rng_below (rng, 4));
  uint64_t offset = rng_below (rng, model->size - count);

  if (rng_below (rng, 4))       /* whole pages of the store, mostly */
    offset -= (model->start + offset) % PAGE < offset
      ? (model->start + offset) % PAGE : 0;
  else
    count -= rng_below (rng, count);
  switch (rng_below (rng, 8)) {
  case 0:
    model_zero (model, count / 4, offset, true);
    break;
  case 1:
  case 2:
    model_read (model, count, offset);
    break;
  default:
    fill_words (rng, v, pages, count);
    model_write (model, pages, count, offset);
  }
}

static void *
run_thread (void *opaque)
{
  struct thread *t = opaque;
  struct rng rng = { t->number + 1 };
  struct vocabulary v;
  struct model model;
  unsigned char page[PAGE];
  uint64_t offset;
  unsigned step;

  model_init (&model, store, (uint64_t) t->number * PART, PART);
  make_vocabulary (&v, 100);
  for (offset = 0; offset + PAGE <= PART; offset += PAGE) {
    fill_words (&rng, &v, page, PAGE);
    model_write (&model, page, PAGE, offset);
  }
  for (step = 0; step < STEPS; step++) {
    make_vocabulary (&v, 100 + step / STEPS_OF_ONE);
    step_words (&model, &rng, &v);
  }
  model_verify (&model);
  model_destroy (&model);
  atomic_fetch_sub (t->running, 1);
  return NULL;
}

START_TEST (test_threads)
{
  struct thread t[NR_THREADS];
  pthread_t threads[NR_THREADS];
  _Atomic unsigned running = NR_THREADS;
  unsigned i;

  setup (&zstd, NR_THREADS * (PART / PAGE + 1));
  for (i = 0; i < NR_THREADS; i++) {
    t[i] = (struct thread) { i, &running };
    ck_assert_int_eq (pthread_create (&threads[i], NULL, run_thread, &t[i]),
                      0);
  }
  while (atomic_load (&running)) {
    store->dictionary.next = 0;
    zram_memory_settle (memory);
  }
  for (i = 0; i < NR_THREADS; i++)
    pthread_join (threads[i], NULL);
  model_check_memory (memory);
  ck_assert_uint_ge (generation (), 1);
  zram_memory_settle (memory);
  teardown ();
}
END_TEST

UNIT_MAIN ("dictionary", test_trained_and_used, test_retrained_and_reaped,
           test_refreshed_on_tiers,
           test_not_for_noise, test_not_for_lz4, test_not_wanted,
           test_not_for_few_pages, test_limit, test_threads)
