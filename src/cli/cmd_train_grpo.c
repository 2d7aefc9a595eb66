/* siren train grpo: reasoning learnt by reinforcement. */

#include "app/grpo.h"
#include "cli/training_command.h"

enum answer_loss { ANSWER_NONE, ANSWER_CE, ANSWER_RPS }; /* --answer-loss */

/* Choices stand in the order of their enums. */
static void read_options(const struct cli *cli, struct grpo_options *o)
{
    struct siren_policy_options *loss = &o->policy.loss;
    o->sampling = answering_sampling(cli);
    o->policy.samples = (int)cli_int(cli, "answers");
    o->policy.advantage = (enum siren_advantage_kind)cli_choice(cli, "advantage");
    o->policy.flat = (enum policy_flat)cli_choice(cli, "flat-groups");
    o->policy.mask_truncated = cli_flag(cli, "mask-truncated");
    loss->clip_low = cli_float(cli, "clip-low");
    loss->clip_high = cli_float(cli, "clip-high");
    loss->dual_clip = cli_float(cli, "dual-clip");
    loss->kl = cli_float(cli, "kl");
    loss->kl_kind = (enum siren_kl_kind)cli_choice(cli, "kl-kind");
    loss->entropy = cli_float(cli, "entropy");
    loss->aggregation = (enum siren_aggregation)cli_choice(cli, "mean-over");
    loss->constant_length = o->sampling.max_tokens;
    o->reward = (enum siren_reward_kind)cli_choice(cli, "reward");
    o->length_cost = cli_float(cli, "length-cost");
    o->refuse_outside = cli_choice(cli, "outside");
    if (cli_choice(cli, "answer-loss") != ANSWER_NONE)
        o->policy.source_weight = cli_float(cli, "answer-weight");
    o->answer.ce = cli_choice(cli, "answer-loss") == ANSWER_CE;
    o->answer.rps = cli_choice(cli, "answer-loss") == ANSWER_RPS;
    o->eval_samples = (int)cli_int(cli, "eval-samples");
    o->texts_every = (uint64_t)cli_int(cli, "texts-every");
}

/* Before a model is loaded. */
static int check_options(struct cli *cli, const struct grpo_options *o)
{
    static const char *const of_kl[] = {"kl-kind", NULL}, *const of_answers[] = {"answer-weight",
                                                                                 NULL};
    int rc = answering_top_p(cli);
    if (!rc && cli_choice(cli, "answer-loss") == ANSWER_NONE)
        rc = cli_refuse(cli, of_answers, "--answer-loss is none");
    if (rc) return rc;
    rc = siren_policy_check(&o->policy.loss, &cli->err);
    if (rc) return cli_options_given(cli, rc);
    return o->policy.loss.kl == 0 ? cli_refuse(cli, of_kl, "--kl is 0") : 0;
}

static int run(struct cli *cli)
{
    struct training_command t;
    struct trainer_result result;
    struct grpo_options o = grpo_defaults();
    static const char *const of_judging[] = {"eval-samples", NULL};
    int rc;
    if (cli_float(cli, "dropout") > 0)
        return cli_usage(cli,
                         "--dropout %g: reinforcement goes without, so that the first ratio of "
                         "a text's probabilities is 1",
                         cli_float(cli, "dropout"));
    read_options(cli, &o);
    rc = check_options(cli, &o);
    if (!rc) rc = training_command_check_unjudged(cli, of_judging);
    if (!rc) rc = training_command_open(cli, &t, "grpo", TRAINING_LR_ALL_GRPO);
    if (rc) return rc;
    o.warn = training_command_warn;
    o.warn_context = cli;
    t.training.loop.repeats = (unsigned)cli_int(cli, "updates");
    rc = grpo_train(&t.training, &o, &result, cli_progress(cli), cli_cancel(cli), &cli->err);
    rc = training_command_report(cli, &t, &result, rc);
    training_command_close(&t);
    return rc;
}

static const struct cli_option options[] = {
    OPTION_INT("answers", "N", "8", 2, 1000, "texts sampled for each prompt"),
    OPTION_INT("updates", "N", "1", 1, 100,
               "steps of the optimiser for each batch of texts; evaluations and checkpoints wait "
               "for the last of them"),
    OPTION_CHOICE(
        "reward", "KIND", "linear", "linear|squared|rps",
        "for the rating: by distance, by squared distance, or by the ranked probability score "
        "of the distribution over the ratings behind the reasoning"),
    OPTION_CHOICE(
        "outside", "WHAT", "clamp", "clamp|refuse",
        "a number outside the scale: earns as the nearest rating (the paper), or as none"),
    OPTION_CHOICE("answer-loss", "KIND", "none", "none|ce|rps",
                  "learn the rating itself, too, behind each text's reasoning: cross-entropy or "
                  "ranked probability score of the distribution there"),
    OPTION_FLOAT("answer-weight", "X", "1", 1e-6, 1e6, "weight of that loss, a mean over texts"),
    OPTION_FLOAT("length-cost", "X", "0", 0, 100,
                 "taken from the reward of a text of "
                 "--max-tokens; of shorter ones in proportion"),
    OPTION_CHOICE(
        "advantage", "KIND", "grpo", "grpo|dr-grpo|leave-one-out",
        "reward less the group's mean over its deviation; without the deviation; less the mean "
        "of the others"),
    OPTION_CHOICE(
        "flat-groups", "WHAT", "keep", "keep|skip|resample",
        "groups with equal rewards: count in the mean, are left out, or other prompts take "
        "their place (with --answer-loss, which learns from each text, all are kept)"),
    OPTION_FLAG("mask-truncated", "learn nothing from texts that were cut"),
    OPTION_FLOAT("clip-low", "X", "0.2", 0, 1, "the ratio is clipped below 1 − X"),
    OPTION_FLOAT("clip-high", "X", "0.2", 0, 100, "… and above 1 + X"),
    OPTION_FLOAT("dual-clip", "C", "3", 0, 1e6, "bound of the loss for bad texts; 0: none"),
    OPTION_FLOAT("kl", "X", "0.001", 0, 100,
                 "weight of the KL to the frozen start; 0: with --weights all there is no start, "
                 "and no KL is watched"),
    OPTION_CHOICE("kl-kind", "KIND", "k3", "k1|k2|k3", "its estimator"),
    OPTION_FLOAT("entropy", "X", "0", -10, 10, "weight of the entropy, which is raised"),
    OPTION_CHOICE("mean-over", "WHAT", "token", "token|sequence|constant",
                  "the loss: mean over tokens, over texts, or sums over --max-tokens (Dr. GRPO)"),
    OPTION_INT("eval-samples", "N", "0", 0, 1000,
               "texts of a row in evaluation; 0: one, "
               "greedy"),
    OPTION_INT("texts-every", "N", "20", 0, 1e9, "steps between files of ten sampled texts"),
    OPTION_FLOAT("temperature", "T", "1", 0.01, 100, "of sampling, and of the policy"),
    OPTION_FLOAT("top-p", "P", "1", 0, 1,
                 "sample from the most probable tokens that make "
                 "up P"),
    OPTION_INT("top-k", "K", "0", 0, 1e6, "sample from the K most probable tokens; 0: all"),
    OPTION_INT("max-tokens", "N", "512", 1, 1e6, "longest text"),
    TRAINING_OPTIONS("2", "32", "5e-5", TRAINING_LR_ALL_GRPO, "0", "0", "1024"),
    PROMPT_OPTIONS,
    {0}};

const struct cli_command cmd_train_grpo = {
    .name = "train grpo",
    .group = CLI_TRAIN,
    .summary = "teach the model to reason, by reinforcement (stage 1)",
    .usage = "WORKSPACE",
    .description =
        "For each prompt several texts are sampled; each earns +1 or -1 for the format and 2 to -2 "
        "for a rating near the truth, and the model is moved towards those that earned more than "
        "their group.  Trained is a LoRA adapter; it is kept where the MAE on valid is best, and "
        "`siren eval --adapter` or `siren train align` take it from there.  With --adapter it goes "
        "on from that one, which is the frozen start of the KL, too.\n\n"
        "The folder holds adapter/, last/ (that of the last checkpoint), checkpoint, "
        "settings.json, log.jsonl (a line a step: reward, "
        "format, MAE, length, KL, entropy, seconds of sampling, scoring and update; a line an "
        "evaluation) and texts/.  Stopped at any moment, it goes on with --resume, to the same "
        "bits.\n\n"
        "A model that never finds the format by chance learns nothing: a warm start (`siren train "
        "sft`) comes first, and its adapter is given with --adapter.",
    .common = TRAINING_COMMON,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren train grpo films.siren -m smollm2.gguf --adapter warm/adapter --out runs/grpo",
             "From a warm start."},
            {"siren train grpo films.siren -m smollm2.gguf -a warm/adapter -o runs/rps --reward "
             "rps "
             "--flat-groups resample --max-tokens 256",
             "A denser reward; prompts without a signal are replaced."},
            {"siren train grpo films.siren -m smollm2.gguf -a warm/adapter -o runs/grpo --resume",
             "Go on with a stopped run."},
            {0}},
    .run = run,
};
