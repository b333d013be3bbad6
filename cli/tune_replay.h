/* xq tune replay: shows how soon a search finds good candidates, in spaces that were measured as a
 * whole. */
#ifndef CLI_TUNE_REPLAY_H
#define CLI_TUNE_REPLAY_H

/* xq tune replay FILE...: the files are those that `xq tune --strategy exhaustive --json FILE` writes. */
int cli_tune_replay(int argc, char **argv);

#endif
