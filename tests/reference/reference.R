# Reference values of all estimates by the R package survey (Lumley 2004, J. Stat. Softw. 9(8); version 4.1 or later).
#
#   Rscript tests/reference/reference.R <folder of export_respondents.py> <reference.csv> [smallest base to write]
#
# Estimates, standard errors, design effects, degrees of freedom and the differences between a trust and the country
# come from survey's own functions. Only the Wilson interval is written out, since survey 4.1 has none; it takes
# survey's standard error and degrees of freedom. Shares are percentages (0-100), their differences percentage points,
# means are points of the scale.
suppressPackageStartupMessages(library(survey))
options(stringsAsFactors = FALSE, survey.lonely.psu = "fail")

arguments <- commandArgs(trailingOnly = TRUE)
if (!length(arguments) %in% 2:3) stop("give the folder of the exported respondents and the file to write")
folder <- arguments[1]
smallest_base <- if (length(arguments) == 3) as.numeric(arguments[3]) else 1
offered <- read.csv(file.path(folder, "offered.csv"), colClasses = c(response = "character"))
trusts <- read.csv(file.path(folder, "trusts.csv"), colClasses = c(trust = "character"))
country <- read.csv(file.path(folder, "geographies.csv"), colClasses = "character")

# Nothing to estimate a variance from: everybody or nobody in the domain chose the response, or all gave one score.
# R's variance is then a rounding error, which is checked and written as the zero it stands for.
zero_if <- function(constant, se) {
  stopifnot(all(se[constant] < 1e-12))
  ifelse(constant, 0, se)
}

# The estimates of one question in one domain: shares of all responses on offer and, for numbers, the mean.
# `design` holds all respondents, `inside` says who of them is in the domain.
estimates <- function(design, answer, inside, responses, numeric) {
  answered <- inside & answer != ""
  base <- sum(answered)
  if (base == 0) return(NULL)
  y <- sapply(responses, function(response) as.numeric(answer == response))
  if (numeric) y <- cbind(y, as.numeric(ifelse(answered, answer, "0")))
  # A post-stratified design keeps those outside the domain as rows of weight 0, another one drops the rows and
  # remembers how many persons each stratum had.
  domain <- subset(design, answered)
  y_domain <- if (nrow(domain) == length(answer)) y else y[answered, , drop = FALSE]
  result <- svymean(y_domain, domain, deff = "replace")
  estimate <- as.vector(coef(result))
  constant <- apply(y[answered, , drop = FALSE], 2, function(column) all(column == column[1]))
  estimate[constant] <- y[answered, , drop = FALSE][1, constant]
  se <- zero_if(constant, as.vector(SE(result)))
  design_effect <- ifelse(constant, NA, as.vector(deff(result)))
  effective_base <- ifelse(constant, base, (base - 1) / design_effect)
  df <- degf(domain)
  t <- if (df >= 1) qt(0.975, df) else NA
  share <- seq_along(estimate) <= length(responses)
  centre <- (estimate + t^2 / (2 * effective_base)) / (1 + t^2 / effective_base)
  half <- t / (2 * effective_base) * sqrt(4 * effective_base * estimate * (1 - estimate) * share + t^2) /
    (1 + t^2 / effective_base)
  percent <- ifelse(share, 100, 1)
  low <- ifelse(share, ifelse(estimate == 0 & constant, 0 * t, centre - half), estimate - t * se)
  high <- ifelse(share, ifelse(estimate == 1 & constant, 1 + 0 * t, centre + half), estimate + t * se)
  data.frame(
    measure = ifelse(share, "share", "mean"), response = c(responses, if (numeric) NA),
    estimate = percent * estimate, se = percent * se, ci_low = percent * low, ci_high = percent * high,
    base = base, effective_base = effective_base, design_effect = design_effect, df = df
  )
}

# Trust minus country for all responses to one question: the covariance matrix of the four totals behind each
# difference, and survey's delta method on it. A trust is part of the country, so that the variances do not add.
differences <- function(design, answer, inside, responses) {
  answered <- answer != ""
  if (!any(inside & answered)) return(NULL)
  if (all(inside[answered])) return(NULL) # nobody to compare with
  chosen <- sapply(responses, function(response) as.numeric(answer == response))
  totals <- cbind(inside & answered, answered, chosen * inside, chosen)
  k <- length(responses)
  colnames(totals) <- c("trust", "country", paste0("of_trust", 1:k), paste0("of_country", 1:k))
  total <- svytotal(totals, design)
  difference <- svycontrast(total, lapply(1:k, function(j) {
    parse(text = sprintf("of_trust%d / trust - of_country%d / country", j, j))[[1]]
  }))
  data.frame(
    measure = "share", response = responses, estimate = 100 * as.vector(coef(difference)),
    se = 100 * as.vector(SE(difference)), ci_low = NA, ci_high = NA, base = sum(inside & answered),
    effective_base = NA, design_effect = NA, df = NA
  )
}

of_wave <- function(year) {
  data <- read.csv(
    file.path(folder, sprintf("respondents_%d.csv", year)),
    colClasses = "character", na.strings = character(0)
  )
  for (name in c("trust_weight", "cell_total", "supplied_weight")) data[[name]] <- as.numeric(data[[name]])
  data$one <- 1
  design <- function(weights) svydesign(ids = ~1, strata = ~stratum, weights = weights, data = data)
  if (all(!is.na(data$cell_total))) {
    totals <- unique(data[c("cell", "cell_total")])
    names(totals)[2] <- "Freq"
    published <- postStratify(design(~trust_weight), ~cell, totals)
    data$combined_weight <- weights(published)
    designs <- list(none = design(~one), trust = design(~trust_weight), trust_population = design(~combined_weight))
    scheme <- "trust_population"
    method <- "post_stratified"
  } else { # supplied weights are taken as they are
    published <- design(~supplied_weight)
    designs <- list(none = design(~one), trust = design(~trust_weight))
    scheme <- "supplied"
    method <- "fixed_weights"
  }
  rows <- list()
  for (question in unique(offered$question_id[offered$survey_year == year])) {
    of_question <- offered[offered$survey_year == year & offered$question_id == question, ]
    responses <- of_question$response
    numeric <- of_question$is_numeric[1] == "true"
    answer <- data[[paste0("q_", question)]]
    add <- function(found, kind, level, code, breakdown, category, scheme, method) {
      if (is.null(found)) return()
      keys <- data.frame(
        survey_year = year, kind = kind, geography_level = level, geography_code = code, breakdown = breakdown,
        category = category, question_id = question, scheme = scheme, variance_method = method
      )
      rows[[length(rows) + 1]] <<- cbind(keys, found)
    }
    national <- function(kind, inside, breakdown, category, design, scheme, method) {
      found <- estimates(design, answer, inside, responses, numeric)
      add(found, kind, country$geography_level, country$geography_code, breakdown, category, scheme, method)
    }
    everybody <- rep(TRUE, nrow(data))
    national("country", everybody, "all", "all", published, scheme, method)
    for (name in names(designs)) {
      national("scheme", everybody, "all", "all", designs[[name]], name, "fixed_weights")
    }
    for (breakdown in c("age_band", "gender")) {
      for (category in setdiff(sort(unique(data[[breakdown]])), "unknown")) {
        national("domain", data[[breakdown]] == category, breakdown, category, published, scheme, method)
      }
    }
    for (trust in trusts$trust[trusts$survey_year == year]) {
      inside <- data$trust == trust
      found <- estimates(published, answer, inside, responses, numeric)
      add(found, "trust", "trust", trust, "all", "all", scheme, method)
      found <- differences(published, answer, inside, responses)
      add(found, "difference", "difference", trust, "all", "all", scheme, method)
    }
  }
  do.call(rbind, rows)
}

years <- sort(unique(offered$survey_year))
all_rows <- do.call(rbind, parallel::mclapply(years, of_wave, mc.cores = min(2, length(years))))
columns <- c(
  "survey_year", "kind", "geography_level", "geography_code", "breakdown", "category", "question_id", "measure",
  "response", "scheme", "variance_method", "estimate", "se", "ci_low", "ci_high", "base", "effective_base",
  "design_effect", "df"
)
all_rows <- all_rows[all_rows$base >= smallest_base, columns]
for (name in c("estimate", "se", "ci_low", "ci_high", "effective_base", "design_effect")) {
  all_rows[[name]] <- ifelse(is.finite(all_rows[[name]]), sprintf("%.17g", all_rows[[name]]), "")
}
write.csv(all_rows, arguments[2], row.names = FALSE, quote = FALSE, na = "")
cat(nrow(all_rows), "estimates by", R.version.string, "and survey", format(packageVersion("survey")), "\n")
