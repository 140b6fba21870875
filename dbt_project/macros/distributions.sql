{% macro normal_quantile() %}{{ return('cast(1.959963984540054 as double)') }}{% endmacro %}

{% macro t_quantile(df, tabled) -%}
    {%- set z = 1.959963984540054 -%}
    {%- set terms = [
        (z ** 3 + z) / 4,
        (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
        (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
        (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
        (27 * z ** 11 + 339 * z ** 9 + 930 * z ** 7 - 1782 * z ** 5 - 765 * z ** 3 + 17955 * z) / 368640,
    ] -%}
    case
        when {{ df }} < 1 then null
        when {{ tabled }} is not null then {{ tabled }}
        else {{ normal_quantile() }}
            {%- for term in terms %}
            + cast({{ term }} as double) / power(cast({{ df }} as double), {{ loop.index }})
            {%- endfor %}
    end
{%- endmacro %}

{% macro polynomial(x, coefficients) -%}
    {%- set value = namespace(sql='cast(' ~ coefficients[0] ~ ' as double)') -%}
    {%- for coefficient in coefficients[1:] -%}
        {%- set value.sql = '(' ~ value.sql ~ ' * ' ~ x ~ ' + cast(' ~ coefficient ~ ' as double))' -%}
    {%- endfor -%}
    {{ return(value.sql) }}
{%- endmacro %}

{% macro normal_p_value(z) -%}
    {%- set y = 'abs(' ~ z ~ ')' -%}
    {%- set y2 = '(' ~ y ~ ' * ' ~ y ~ ')' -%}
    {%- set r2 = '(cast(1 as double) / ' ~ y2 ~ ')' -%}
    {%- set density = 'exp(-' ~ y2 ~ ' / 2)' -%}
    case
        when {{ z }} is null then null
        when {{ y }} <= cast(0.67448975 as double)
            then
                1 - 2 * {{ y }}
                * {{ polynomial(y2, ['0.065682337918207449', '2.2352520354606839', '161.02823106855588', '1067.6894854603710', '18154.981253343561']) }}
                / {{ polynomial(y2, ['1.0', '47.202581904688242', '976.09855173777669', '10260.932208618978', '45507.789335026730']) }}
        when {{ y }} <= cast(5.656854249492381 as double)
            then
                2 * {{ density }}
                * {{ polynomial(y, ['1.0765576773720192e-8', '0.39894151208813467', '8.8831497943883759', '93.506656132177856', '597.27027639480026', '2494.5375852903727', '6848.1904505362823', '11602.651437647350', '9842.7148383839780']) }}
                / {{ polynomial(y, ['1.0', '22.266688044328116', '235.38790178262500', '1519.3775994075548', '6485.5582982667608', '18615.571640885098', '34900.952721145977', '38912.003286093271', '19685.429676859991']) }}
        when {{ y }} < 38
            then
                2 * {{ density }} / {{ y }} * (
                    cast(0.39894228040143268 as double) - {{ r2 }}
                    * {{ polynomial(r2, ['0.02307344176494017', '0.21589853405795700', '0.12740116116024736', '0.022235277870649807', '0.0014216191932278935', '0.000029112874951168792']) }}
                    / {{ polynomial(r2, ['1.0', '1.2842600961449112', '0.46823821248086512', '0.065988137868928552', '0.0037823963320275824', '0.000072975155508396621']) }}
                )
        else cast(0 as double)
    end
{%- endmacro %}

{% macro wilson(p, n, t, sign) -%}
    case
        when {{ t }} is null then null
        when {{ p }} = 0 and '{{ sign }}' = '-' then cast(0 as double)
        when {{ p }} = 1 and '{{ sign }}' = '+' then cast(1 as double)
        else
            (
                {{ p }} + {{ t }} * {{ t }} / (2 * {{ n }})
                {{ sign }} {{ t }} / (2 * {{ n }}) * sqrt(4 * {{ n }} * {{ p }} * (1 - {{ p }}) + {{ t }} * {{ t }})
            ) / (1 + {{ t }} * {{ t }} / {{ n }})
    end
{%- endmacro %}
