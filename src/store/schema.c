#include "store/store.h"

/* Version 1.  docs/workspace.md describes every column; a table with rows about a person
 * has a column named `user`, by which siren_forget() finds it. */
static const char schema_1[] =
    "CREATE TABLE meta(\n"
    "  key TEXT PRIMARY KEY,\n"
    "  value TEXT NOT NULL\n"
    ") STRICT, WITHOUT ROWID;\n"

    "CREATE TABLE items(\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  external TEXT NOT NULL UNIQUE,\n"
    "  title TEXT NOT NULL,\n"
    "  categories TEXT NOT NULL DEFAULT '[]',\n" /* JSON array of strings */
    "  features TEXT NOT NULL DEFAULT '[]',\n"   /* JSON array of strings */
    "  description TEXT NOT NULL DEFAULT '',\n"
    "  year INTEGER,\n"
    "  hash INTEGER NOT NULL\n"
    ") STRICT;\n"

    "CREATE TABLE users(\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  external TEXT NOT NULL UNIQUE\n"
    ") STRICT;\n"

    "CREATE TABLE ratings(\n"
    "  user INTEGER NOT NULL REFERENCES users(id),\n"
    "  item INTEGER NOT NULL REFERENCES items(id),\n"
    "  rating REAL NOT NULL,\n"
    "  time INTEGER,\n"
    "  sequence INTEGER NOT NULL,\n" /* 0, 1, … in the user's order */
    "  label INTEGER NOT NULL DEFAULT 0,\n"
    "  fold INTEGER,\n"
    "  PRIMARY KEY(user, item)\n"
    ") STRICT, WITHOUT ROWID;\n"

    "CREATE TABLE splits(\n"
    "  kind TEXT PRIMARY KEY CHECK(kind IN ('labels', 'folds')),\n"
    "  name TEXT NOT NULL,\n"
    "  folds INTEGER NOT NULL DEFAULT 0,\n"
    "  settings TEXT NOT NULL DEFAULT '{}'\n"
    ") STRICT, WITHOUT ROWID;\n"

    "CREATE TABLE encoders(\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  identity TEXT NOT NULL UNIQUE,\n"
    "  dimensions INTEGER NOT NULL,\n"
    "  unit INTEGER NOT NULL,\n"
    "  used INTEGER NOT NULL\n" /* ms since 1970: all items were done; 0: not yet */
    ") STRICT;\n"

    "CREATE TABLE embeddings(\n"
    "  encoder INTEGER NOT NULL REFERENCES encoders(id),\n"
    "  item INTEGER NOT NULL REFERENCES items(id),\n"
    "  hash INTEGER NOT NULL,\n"
    "  vector BLOB NOT NULL,\n" /* float32, little endian */
    "  PRIMARY KEY(encoder, item)\n"
    ") STRICT;\n"

    "CREATE TABLE clustering(\n" /* at most one row */
    "  id INTEGER PRIMARY KEY CHECK(id = 1),\n"
    "  encoder TEXT NOT NULL,\n"
    "  topics INTEGER NOT NULL,\n"
    "  dimensions INTEGER NOT NULL,\n"
    "  spherical INTEGER NOT NULL,\n"
    "  inertia REAL NOT NULL,\n"
    "  settings TEXT NOT NULL DEFAULT '{}'\n"
    ") STRICT;\n"

    "CREATE TABLE topics(\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  name TEXT,\n"
    "  name_source TEXT NOT NULL DEFAULT 'none'\n"
    "    CHECK(name_source IN ('none', 'llm', 'tfidf', 'hand')),\n"
    "  centre BLOB NOT NULL\n"
    ") STRICT;\n"

    "CREATE TABLE item_topics(\n"
    "  item INTEGER PRIMARY KEY REFERENCES items(id),\n"
    "  topic INTEGER NOT NULL REFERENCES topics(id),\n"
    "  distance REAL NOT NULL,\n"
    "  second INTEGER,\n"
    "  second_distance REAL\n"
    ") STRICT;\n"

    "CREATE TABLE sketches(\n"
    "  user INTEGER NOT NULL REFERENCES users(id),\n"
    "  topic INTEGER NOT NULL REFERENCES topics(id),\n"
    "  weight REAL NOT NULL,\n"
    "  sum REAL NOT NULL,\n"
    "  liked INTEGER NOT NULL,\n"
    "  disliked INTEGER NOT NULL,\n"
    "  decayed_weight REAL NOT NULL,\n"
    "  decayed_sum REAL NOT NULL,\n"
    "  time INTEGER,\n"
    "  PRIMARY KEY(user, topic)\n"
    ") STRICT, WITHOUT ROWID;\n"

    "CREATE TABLE runs(\n"
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
    "  kind TEXT NOT NULL,\n"
    "  name TEXT NOT NULL DEFAULT '',\n"
    "  status TEXT NOT NULL CHECK(status IN ('running', 'done', 'failed', 'stopped')),\n"
    "  started INTEGER NOT NULL,\n"
    "  finished INTEGER,\n"
    "  command TEXT NOT NULL DEFAULT '',\n"
    "  settings TEXT NOT NULL DEFAULT '{}',\n"
    "  model TEXT NOT NULL DEFAULT '',\n"
    "  seed INTEGER NOT NULL DEFAULT 0,\n"
    "  split TEXT NOT NULL DEFAULT '',\n"
    "  metrics TEXT NOT NULL DEFAULT '',\n"
    "  message TEXT NOT NULL DEFAULT ''\n"
    ") STRICT;\n"

    "CREATE TABLE predictions(\n"
    "  run INTEGER NOT NULL REFERENCES runs(id),\n"
    "  row INTEGER NOT NULL,\n"
    "  user INTEGER NOT NULL REFERENCES users(id),\n"
    "  item INTEGER NOT NULL REFERENCES items(id),\n"
    "  truth REAL,\n"
    "  argmax REAL,\n"
    "  mean REAL,\n"
    "  median REAL,\n"
    "  outside REAL,\n"
    "  probabilities BLOB,\n" /* float32, one a label */
    "  logprobs BLOB,\n"
    "  tokens_in INTEGER NOT NULL DEFAULT 0,\n"
    "  tokens_out INTEGER NOT NULL DEFAULT 0,\n"
    "  tokens_cached INTEGER NOT NULL DEFAULT 0,\n"
    "  latency_ms REAL NOT NULL DEFAULT 0,\n"
    "  invalid INTEGER NOT NULL DEFAULT 0,\n"
    "  text TEXT,\n"
    "  PRIMARY KEY(run, row)\n"
    ") STRICT;\n"

    STORE_RATINGS_INDEX ";\n"
    "CREATE INDEX predictions_user ON predictions(user);\n";

/* Version 2: what the texts of a reasoned prediction were like. */
static const char schema_2[] = "ALTER TABLE predictions ADD COLUMN reasoning TEXT;\n";

/* Version 3: the process of a run that is running (base/process.h). */
static const char schema_3[] = "ALTER TABLE runs ADD COLUMN process TEXT NOT NULL DEFAULT '';\n";

/* Step i brings a file of version i to i + 1; version 0 is an empty file. */
const char *const schema_steps[SIREN_SCHEMA_VERSION] = {schema_1, schema_2, schema_3};
