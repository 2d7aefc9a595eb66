"""GRPO by TRL 1.16.0's own trainers (PyTorch 2.15.0), called on given texts, rewards and
log-probabilities: advantages by _generate_and_score_completions of GRPOTrainer and RLOOTrainer, the
loss by GRPOTrainer._compute_loss and its gradient by autograd: tests/fixtures/train/grpo.json."""
import collections
import contextlib
import json
import pathlib
import types

import torch
import trl
from trl.trainer import grpo_trainer, rloo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

SEQUENCES, LENGTH, MAX_LENGTH = 6, 9, 12
torch.manual_seed(5)
lengths = [9, 1, 4, 9, 6, 3]
mask = torch.tensor([[int(t < n) for t in range(LENGTH)] for n in lengths])
old = -torch.rand(SEQUENCES, LENGTH) * 3
new = old + torch.randn(SEQUENCES, LENGTH) * 0.7
reference = old + torch.randn(SEQUENCES, LENGTH) * 0.2
entropies = torch.rand(SEQUENCES, LENGTH) * 2
rewards = torch.tensor([3.0, -1.0, 2.0, 0.0, -3.0, 1.0]).double()
# Groups of three: one flat, one of nearly equal rewards.
groups = torch.tensor([[0.1, 0.1, 0.1, -1.7, 2.9, 0.3], [1.0, 1.001, 1.0, 3.0, -3.0, -3.0]],
                      dtype=torch.double)


def scored(trainer, module, rewards, group, beta=0.0, scale="group"):
    """What the trainer's method makes of texts that are given: its output, its metrics."""
    # The model's log-probabilities are `new`, those of its start `reference`.
    model, start = types.SimpleNamespace(training=True), object()
    own = types.SimpleNamespace(
        accelerator=types.SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=1,
                                          gather=lambda x: x, reduce=lambda x, reduction: x),
        args=types.SimpleNamespace(steps_per_generation=1, gradient_accumulation_steps=1,
                                   gradient_checkpointing_kwargs=None, per_device_train_batch_size=99,
                                   report_to=[]),
        model=model, ref_model=start, beta=beta, num_generations=group, num_iterations=1,
        environment_factories=None, environments=None, tools=[], pad_to_multiple_of=None,
        _tokenizer=types.SimpleNamespace(pad_token_id=0), mask_truncated_completions=False,
        use_vllm=False, multi_objective_aggregation="sum_then_normalize", scale_rewards=scale,
        normalize_advantages=False, reward_clip_range=None, reward_weights=torch.ones(1),
        reward_funcs=[None], reward_func_names=["given"], log_multimodal=False,
        _metrics={"train": collections.defaultdict(list)}, _pending_extra_logs={},
        _pending_metrics={}, _logs=collections.defaultdict(list, rewards=collections.defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda m, *a, **k: (
            (reference if m is start else new).double(), None, None),
        _calculate_rewards=lambda *a: rewards.double().reshape(-1, 1).clone())
    ids, texts = [[1]] * SEQUENCES, [[1] * n for n in lengths]
    said = [""] * SEQUENCES
    # GRPO's: no mask of tools, no log-probabilities of a sampler, no further fields, no images.
    own._generate = lambda prompts: ((ids, texts, said) if trainer is RLOOTrainer else
                                     (ids, texts, None, said, None, {}, None, None))
    module.disable_gradient_checkpointing = lambda *a: contextlib.nullcontext()
    module.gather_object = lambda x: x
    out = trainer._generate_and_score_completions(own, [{"prompt": "p"}] * SEQUENCES)
    return out, {k: v[-1] for k, v in own._metrics["train"].items()}


def by_kind(rewards, group):
    def of(trainer, module, scale="group"):
        return scored(trainer, module, rewards, group, scale=scale)[0]["advantages"].tolist()

    return dict(group=group, rewards=rewards.tolist(), grpo=of(GRPOTrainer, grpo_trainer),
                dr_grpo=of(GRPOTrainer, grpo_trainer, "none"),
                leave_one_out=of(RLOOTrainer, rloo_trainer))


advantages = scored(GRPOTrainer, grpo_trainer, rewards, SEQUENCES)[0]["advantages"]
# k1: the log ratio that RLOO takes off rewards, logged as a mean over tokens.
k1 = scored(RLOOTrainer, rloo_trainer, rewards, SEQUENCES, beta=1.0)[1]["kl"]


def case(loss_type, low, high, delta, beta, entropy_coef=0.0):
    logprob = new.double().requires_grad_()
    entropy = entropies.double().requires_grad_()
    trainer = types.SimpleNamespace(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", beta=beta, loss_type=loss_type, epsilon_low=low,
        epsilon_high=high, use_vllm=False, max_completion_length=MAX_LENGTH,
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=delta),
        model=types.SimpleNamespace(training=True), current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=entropy_coef != 0, entropy_coef=entropy_coef,
        use_adaptive_entropy=False,
        accelerator=types.SimpleNamespace(gather=lambda x: x.reshape(-1),
                                          reduce=lambda x, reduction: x, num_processes=1,
                                          sync_gradients=True),
        _metrics={"train": collections.defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprob, entropy, None))
    ids = torch.zeros(SEQUENCES, LENGTH, dtype=torch.long)
    loss = GRPOTrainer._compute_loss(trainer, None, dict(
        prompt_ids=ids, prompt_mask=torch.ones_like(ids), completion_ids=ids, completion_mask=mask,
        advantages=advantages, old_per_token_logps=old.double(),
        ref_per_token_logps=reference.double()))
    gradient, by_entropy = torch.autograd.grad(loss, (logprob, entropy), materialize_grads=True)
    metrics = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    return dict(loss_type=loss_type, low=low, high=high, delta=delta or 0, beta=beta,
                entropy_coef=entropy_coef, by_entropy=ragged(by_entropy),
                loss=loss.item(), gradient=ragged(gradient), kl=metrics.get("kl", 0),
                entropy=metrics["entropy"], clipped_low=metrics["clip_ratio/low_mean"],
                clipped_high=metrics["clip_ratio/high_mean"])


def ragged(x):
    return [float(v) for row, n in zip(x, lengths) for v in row[:n]]


cases = [case(*c) for c in [("bnpo", 0.2, 0.2, None, 0.0), ("bnpo", 0.2, 0.28, 1.5, 0.04),
                            ("grpo", 0.2, 0.2, None, 0.1), ("grpo", 0.1, 0.3, 2.0, 0.0),
                            ("dr_grpo", 0.2, 0.2, 3.0, 0.001),
                            ("bnpo", 0.2, 0.2, None, 0.01, 0.05),
                            ("grpo", 0.2, 0.2, None, 0.01, 0.05),
                            ("dr_grpo", 0.2, 0.2, None, 0.0, -0.03)]]
out = dict(trl=trl.__version__, torch=torch.__version__, lengths=lengths, max_length=MAX_LENGTH, rewards=rewards.tolist(),
           advantages=advantages.tolist(), logprob=ragged(new), old=ragged(old),
           reference=ragged(reference), entropies=ragged(entropies), cases=cases,
           kinds=[by_kind(rewards, SEQUENCES)] + [by_kind(g, 3) for g in groups], k1=k1)
path = pathlib.Path(__file__).parent.parent / "fixtures" / "train" / "grpo.json"
path.write_text(json.dumps(out) + "\n")
