"""One training: critic steps, a generator step, and the loop that yields an epoch's results.

The compressor makes the tokens of a batch once; the critic's steps and the generator's step share them, since the
compressor does not change in between. Every critic step draws originals and interpolations afresh (arXiv 1704.00028
asks for fresh draws, not for a fresh forward pass)."""

# B batch, N = g*g original tokens, M = k*k compressed tokens, U scored samples, C channels

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from toconv import grid
from toconv.errors import CheckpointError, TrainingFailed, first_line
from toconv.evaluation.final import Evaluation
from toconv.evaluation.metrics import DIAGNOSTICS, MATCHED, MICRO_BATCH, VALIDATION, of_size
from toconv.hardware import compile_choice, graph_choice, mixed_precision
from toconv.models.cost import compressor_cost, held_numbers
from toconv.models.critic import build_critic
from toconv.models.families import build_compressor, build_networks, linear_codes_of, match
from toconv.models.nested import at_size
from toconv.settings import OF_THIS_MACHINE, Settings
from toconv.tokens.codes import linear_codes
from toconv.tokens.store import TokenStore
from toconv.training import losses
from toconv.training.agreement import AgreementLoss
from toconv.training.captured import CapturedStep, Moved
from toconv.training.critic_samples import draw_critic_samples
from toconv.training.gradients import Batch, Gradients
from toconv.training.micro_batches import CompressedBatch
from toconv.training.optimizers import Adam, AdamW, portable_state, rates_on_gpu
from toconv.training.partial_epoch import PARTIAL, Leave, LeftEpoch, PartialEpoch, never
from toconv.training.starts import Starts

PARTS = ("compressor", "decoder", "critic", "optimizer", "critic_optimizer", "schedule")  # of a checkpoint
REACHED = ("epoch", "best_epoch", "best_distortion")
OnLog = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class EpochResult:
    """Held-out metrics and the means of the diagnostics over the epoch. Epochs count from 1."""

    epoch: int
    metrics: dict[str, float]


class Training:
    """Compressor, decoder and critic with their optimizers, between two steps."""

    def __init__(self, settings: Settings, store: TokenStore, device: torch.device) -> None:
        self.settings, self.store, self.device = settings, store, device
        t, model = settings.training, settings.model
        self.k, self.sizes = model.compressor.output_grid_size, model.compressor.sizes
        self.evaluation = Evaluation(store, settings.encoder, t.batch_size, device)
        self.train = self.evaluation.train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(t.seed)
            networks = build_networks(model.compressor, model.decoder, store.width, store.grid_size)
            self.compressor, self.decoder = (network.to(device) for network in networks)
            self.critic = build_critic(store.width, model.critic).to(device)
        for k, code in linear_codes_of(self.compressor).items():
            code.load_state_dict(linear_codes(store, k, device).state_dict()[model.compressor.init])
        self._compiled = compile_choice(settings, device, t.epochs * len(self.train))
        if self._compiled.taken:
            self._compile(settings.hardware.compile == "auto")
        self._graph = graph_choice(settings, device)
        self._captured: CapturedStep | None = None
        self._make_optimizers()
        self.coverage_N = {k: grid.coverage(store.grid_size, k).to(device) for k in self.sizes}
        of, weight = settings.loss.agreement_of, settings.loss.agreement_weight
        self.agreement = AgreementLoss(self.train, settings.encoder, self.sizes, of) if weight > 0 else None
        trained = (self.compressor, self.decoder, self.critic)
        self.gradients = Gradients(settings, trained, self.coverage_N, self.agreement)
        self.micro_batches = self.gradients.micro_batches
        self.starts = Starts(self.train, self.compressor, mixed_precision(settings.hardware))
        self.shuffle = torch.Generator().manual_seed(t.seed)
        self.size_draws = torch.Generator().manual_seed(t.seed)  # on the host, where k is needed
        self.draws = torch.Generator(device).manual_seed(t.seed)
        self.epoch, self.best_epoch, self.best_distortion = 0, 0, math.inf
        self.partial: PartialEpoch | None = None  # of the epoch that is at work

    @property
    def stated(self) -> str:
        """What the settings that only a machine can decide come to, in a line."""
        precision = "bf16, critic and losses in fp32" if mixed_precision(self.settings.hardware) else "fp32"
        tf32 = f", TF32 {'on' if self.settings.hardware.tf32 else 'off'}" if self.device.type == "cuda" else ""
        compiled = f"{'compiled' if self._compiled.taken else 'not compiled'} ({self._compiled.why})"
        compiled += ", steps captured as a CUDA graph" if self._graph.taken else ""
        return f"{precision}{tf32}; {compiled}; {self.micro_batches.stated}; {self.train.stated}"

    def _compile(self, is_choice: bool) -> None:
        """Not in the mode that records CUDA graphs, where the next call overwrites what one gave. Where it is a choice
        of ours, a network that does not compile runs as it is, with torch's warning."""
        if is_choice:
            torch._dynamo.config.suppress_errors = True
        self.compressor.compile()
        self.decoder.compile()

    def _make_optimizers(self) -> None:
        t = self.settings.training
        generator = [*self.compressor.parameters(), *self.decoder.parameters()]
        self.optimizer = AdamW(generator, t.learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        self.critic_optimizer = Adam(self.critic.parameters(), t.critic_learning_rate, t.critic_betas, fused=True)
        schedule = cosine_with_warmup(t.epochs * len(self.train), t.warmup_fraction)
        self.schedule = LambdaLR(self.optimizer, schedule)
        self._rates_on_gpu()

    def _rates_on_gpu(self) -> None:
        for optimizer in self._optimizers:
            rates_on_gpu(optimizer, self.device)

    @property
    def _optimizers(self) -> tuple[AdamW, Adam]:
        return self.optimizer, self.critic_optimizer

    def epochs(self, on_log: OnLog | None = None, leave: Leave = never) -> Iterator[EpochResult]:
        """Train to `training.epochs`, yielding after each. Raises TrainingFailed on a value that is not finite, and
        LeftEpoch where `leave` says so before a step. `on_log(step, steps, losses)` is told every `training.log_every`
        steps of an epoch."""
        while self.epoch < self.settings.training.epochs:
            diagnostics = self._train_epoch(on_log, leave)
            metrics = self._evaluated(self._measured)
            self.epoch += 1
            if self.epoch == self.settings.training.epochs:
                metrics |= self._evaluated(partial(self._final, metrics))
            if self.micro_batches.divides:
                metrics[MICRO_BATCH] = float(self.micro_batches.size)
            _must_be_finite(metrics, f"validation of epoch {self.epoch}")
            if metrics["distortion"] < self.best_distortion:
                self.best_epoch, self.best_distortion = self.epoch, metrics["distortion"]
            yield EpochResult(self.epoch, metrics | diagnostics)

    def _evaluated(self, measured: Callable[[], dict[str, float]]) -> dict[str, float]:
        """As many images at a time as the steps have, or fewer where memory runs out."""

        def work() -> dict[str, float]:
            self.evaluation.take(self.micro_batches.size)
            with torch.inference_mode(), self.gradients.autocast(self.device):
                return measured()

        return self.micro_batches.attempt(work)

    def _measured(self) -> dict[str, float]:
        """Of the current compressor with its own decoder, on the validation images."""
        return self.evaluation.one_pass(self.compressor, self.decoder, VALIDATION.name)

    def _final(self, known: dict[str, float]) -> dict[str, float]:
        """What is measured once: every metric at every k, on the test images too where that is asked for, and the
        cost."""
        store, test, asked = self.store, self.settings.training.test, self.settings.model.compressor
        metrics = self.evaluation.final(self.compressor, self.decoder, self.k, test, known)
        for k in (k for k in self.sizes if k != self.k):
            found = self.evaluation.final(at_size(self.compressor, k), self.decoder, k, test)
            metrics |= {of_size(k, name): value for name, value in found.items()}
        with torch.device("meta"):
            compressor = build_compressor(asked, store.width, store.grid_size)
        if asked.match:
            metrics |= zip(MATCHED, match(asked, store.width, store.grid_size), strict=True)
        return metrics | compressor_cost(compressor, held_numbers(compressor), store.grid_size**2, store.width)

    def _train_epoch(self, on_log: OnLog | None, leave: Leave) -> dict[str, float]:
        every, steps = self.settings.training.log_every, len(self.train)
        at = self.partial = self.partial or PartialEpoch.begin(self.shuffle, self.device)
        self.shuffle.set_state(at.order)
        for step, (images_B, x_BNC) in enumerate(self.train.shuffled(self.shuffle, at.steps), at.steps + 1):
            if leave():
                raise LeftEpoch
            at.pending += self._launched(x_BNC, images_B)
            at.steps = step
            if step % every == 0 or step == steps:
                at.total += at.pending
                count = (step - 1) % every + 1
                means = dict(zip(DIAGNOSTICS, (at.pending / count).tolist(), strict=True))  # the host sync
                _must_be_finite(means, f"epoch {self.epoch + 1}, steps {step - count + 1} to {step}")
                at.pending.zero_()
                if on_log:
                    on_log(step, steps, means)
        self.partial = None
        return dict(zip(DIAGNOSTICS, (at.total / steps).tolist(), strict=True))

    def _launched(self, x_BNC: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
        """A step; of a whole batch as one graph where that is asked for."""
        if not self._graph.taken or len(x_BNC) < min(self.train.batch_size, self.train.images):
            return self.step(x_BNC, images_B)
        if self._captured is None:
            self._captured = self.captured(x_BNC, images_B)
        return self._captured(x_BNC, images_B)

    def captured(self, x_BNC: torch.Tensor, images_B: torch.Tensor) -> CapturedStep:
        """`step` for batches of this size, from where the training stands."""
        moved = Moved((self.compressor, self.decoder, self.critic), self._optimizers, self.draws)
        return CapturedStep(self._at_this_rate, self.schedule.step, moved, (x_BNC, images_B))

    def step(self, x_BNC: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
        """n_critic critic steps and a generator step on the tokens of the training images `images_B`, at a k that is
        drawn where there are several; returns DIAGNOSTICS, not synchronised."""
        found = self._at_this_rate(x_BNC, images_B)
        self.schedule.step()
        return found

    def _at_this_rate(self, x_BNC: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
        """`step` but for the schedule's."""
        k, gradients, in_parts = self._drawn_size(), self.gradients, self.micro_batches
        is_adversarial = losses.adversarial_weight(self.settings.loss) > 0  # no verdict that weighs nothing is trained
        sees_means = is_adversarial and self.settings.model.critic.head == "conditional"
        batch = Batch(x_BNC, images_B, self.starts.at(images_B, k), grid.pool(x_BNC, k) if sees_means else None, k)
        compressed = in_parts.attempt(lambda: gradients.compressed(batch))
        critic_terms = self._critic_steps(batch, compressed) if is_adversarial else (x_BNC.new_zeros(()),) * 4
        terms = in_parts.attempt(lambda: gradients.of_generator(batch, compressed), compressed.let_go)
        l_total, *others, balance = terms
        gradient_norm = total_norm(self.compressor, self.decoder)
        self.optimizer.step()
        return torch.stack([l_total, *others, gradient_norm, balance, *critic_terms]).detach()

    def _drawn_size(self) -> int:
        if len(self.sizes) == 1:
            return self.k
        return self.sizes[int(torch.randint(len(self.sizes), (), generator=self.size_draws))]

    def _critic_steps(self, batch: Batch, compressed: CompressedBatch) -> tuple[torch.Tensor, ...]:
        """L_disc, critic gap, penalty and gradient norm of the last of n_critic steps, each on fresh draws."""
        asked, fake_BMC, in_parts = self.settings.model.critic, compressed.z_BMC.float(), self.micro_batches
        for _ in range(self.settings.training.n_critic):
            samples = draw_critic_samples(asked, batch.x_BNC, fake_BMC, batch.means_BMC, self.draws)
            alpha_U = torch.rand(len(samples.fake), device=self.device, generator=self.draws)
            gradients = partial(self.gradients.of_critic, samples, alpha_U, len(fake_BMC))
            terms = in_parts.attempt(gradients, compressed.let_go)
            self.critic_optimizer.step()
        return *terms, total_norm(self.critic)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, random states included."""
        return {
            **{name: getattr(self, name) for name in REACHED},
            "settings": self.settings.model_dump(mode="json", exclude=OF_THIS_MACHINE),
            MICRO_BATCH: self.micro_batches.size,
            "store": {
                **{name: getattr(self.store, name) for name in ("fingerprint", "blocks")},
                **{name: getattr(self.store, name).clone() for name in ("mean_C", "std_C")},
            },
            **{name: getattr(self, name).state_dict() for name in ("compressor", "decoder", "critic")},
            "optimizer": portable_state(self.optimizer),
            "critic_optimizer": portable_state(self.critic_optimizer),
            "schedule": {**self.schedule.state_dict(), "_last_lr": [*map(float, self.schedule.get_last_lr())]},
            "random": {name: generator.get_state() for name, generator in self._generators().items()},
            **({PARTIAL: self.partial.state_dict()} if self.partial else {}),
        }

    def _generators(self) -> dict[str, torch.Generator]:
        return {"shuffle": self.shuffle, "draws": self.draws, "sizes": self.size_draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises CheckpointError where the state belongs to other tokens or another model."""
        if state["store"]["fingerprint"] != self.store.fingerprint:
            theirs = state["store"]["fingerprint"]
            raise CheckpointError(f"checkpoint was trained on tokens {theirs}, but these are {self.store.fingerprint}")
        try:
            for name in PARTS:
                getattr(self, name).load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"checkpoint has another model: {first_line(error)}") from error
        self._captured = None  # of optimizer states that are no longer these
        self.starts.forget()
        self._rates_on_gpu()
        for name, generator in self._generators().items():
            if name in state["random"]:  # older checkpoints have one k, and no draws of it
                generator.set_state(state["random"][name])
        for name in REACHED:
            setattr(self, name, state[name])
        self.partial = PartialEpoch.of(state[PARTIAL], self.device) if PARTIAL in state else None
        self.micro_batches.go_on_with(state.get(MICRO_BATCH))  # older checkpoints never divided


def cosine_with_warmup(steps: int, warmup_fraction: float) -> Callable[[int], float]:
    """Factor of the learning rate: linear to 1 over the warm-up, then half a cosine to 0 at `steps`."""
    warmup = max(1, round(steps * warmup_fraction))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def total_norm(*networks: torch.nn.Module) -> torch.Tensor:
    """The 2-norm of all gradients together, not synchronised."""
    return torch.nn.utils.get_total_norm([p.grad for n in networks for p in n.parameters() if p.grad is not None])


def _must_be_finite(values: dict[str, float], where: str) -> None:
    bad = [f"{name}={value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise TrainingFailed(f"{where}: {', '.join(bad)} (every loss and metric must be finite)")
